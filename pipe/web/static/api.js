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

export const keys = () => get("/api/keys");

export const grants = () => get("/api/grants");
export const addGrant = (grant) => send("POST", "/api/grants", grant);
export const removeGrant = (topic, who) => send("DELETE", "/api/grants", { topic, who: [who] });

export const tokens = () => get("/api/tokens");
export const addToken = (token) => send("POST", "/api/tokens", token);
export const removeToken = (id) => send("DELETE", "/api/tokens", { id });
export const addLink = (link) => send("POST", "/api/links", link);

/** Where a topic's stream is. */
export const streamPath = (topic) => `/topic/${topicPath(topic)}`;

/** Where a topic's WebSocket is. */
export function socketAddress(topic, options) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}/pipe/${topicPath(topic)}?${new URLSearchParams(options)}`;
}
