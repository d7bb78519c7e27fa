// What the page asks the server: the JSON that the commands print over SSH.

import { topicPath } from "./format.js";

/** A refusal, in the words of SSH. */
export class Refused extends Error {
  /**
   * @param {number} status of HTTP; 0 if there was no answer
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const NO_ANSWER = "the server does not answer: is it running, and the network up?";

/** @returns {Promise<Response>} one with a good status */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, NO_ANSWER);
  }
  if (!response.ok) throw new Refused(response.status, await words(response));
  return response;
}

/** What a refusal says. */
export async function words(response) {
  return sentence(await response.text(), response.status);
}

/** The same for text that is there already: JSON or plain. */
export function sentence(text, status) {
  try {
    return JSON.parse(text).message;
  } catch {
    return text.trim() || `the server refused (HTTP ${status})`;
  }
}

const JSON_TYPES = { accept: "application/json" };

async function get(path) {
  return (await ask(path, { headers: JSON_TYPES })).json();
}

async function send(method, path, body) {
  const response = await ask(path, {
    method,
    headers: { ...JSON_TYPES, ...(body && { "content-type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

export const whoami = () => get("/api/whoami");
export const explain = (topic) => get(`/api/topics/${topicPath(topic)}`);
export const stat = (topic) => get(`/api/stat/${topicPath(topic)}`);

export const keys = () => get("/api/keys");

export const grants = () => get("/api/grants");
export const addGrant = (grant) => send("POST", "/api/grants", grant);
export const removeGrant = (topic, who) => send("DELETE", "/api/grants", { topic, who: [who] });

export const tokens = () => get("/api/tokens");
export const addToken = (token) => send("POST", "/api/tokens", token);
export const removeToken = (id) => send("DELETE", "/api/tokens", { id });
export const addLink = (link) => send("POST", "/api/links", link);

export const hooks = () => get("/api/hooks");
export const addHook = (hook) => send("POST", "/api/hooks", hook);
export const testHook = (id) => send("POST", "/api/hooks/test", { id });
export const rotateHook = (id) => send("POST", "/api/hooks/rotate", { id });
export const removeHook = (id) => send("DELETE", "/api/hooks", { id });

export const webhooks = () => get("/api/webhooks");
export const addWebhook = (webhook) => send("POST", "/api/webhooks", webhook);
export const testWebhook = (id) => send("POST", "/api/webhooks/test", { id });
export const resumeWebhook = (id) => send("POST", "/api/webhooks/resume", { id });
export const removeWebhook = (id) => send("DELETE", "/api/webhooks", { id });

export const monitors = () => get("/api/monitors");
export const addMonitor = (monitor) => send("POST", "/api/monitors", monitor);
export const pauseMonitor = (topic) => send("POST", "/api/monitors/pause", { topic });
export const resumeMonitor = (topic) => send("POST", "/api/monitors/resume", { topic });
export const removeMonitor = (topic) => send("DELETE", "/api/monitors", { topic });
export const monitorAddresses = () => get("/api/monitors/feed");
export const renewMonitorAddresses = () => send("POST", "/api/monitors/feed");

/** Where the lines about the user are. */
export const logsPath = (options) => `/api/logs?${new URLSearchParams(options)}`;

/** Where a topic's stream is. */
export const streamPath = (topic) => `/topic/${topicPath(topic)}`;

/** Where a topic's WebSocket is. */
export function socketAddress(topic, options) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}/pipe/${topicPath(topic)}?${new URLSearchParams(options)}`;
}
