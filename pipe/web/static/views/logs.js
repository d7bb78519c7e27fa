// Logs: what services, and this server, have logged about the user.

import { logsPath } from "../api.js";
import { alertBox, check, command, field, fill, h, say } from "../dom.js";
import { visible } from "../format.js";
import { Lines, MAX_LINE, read } from "../tail.js";
import { choices, heading, word } from "./list.js";

export const title = "Logs";

/** Past lines that come first; the server keeps no more. */
const PAST = 200;

/** Characters of a line that is read: as many as the server takes bytes, and what its escapes add. */
const LONGEST = 512 * 1024;

const TYPING_MILLISECONDS = 400;
const RETRY_MILLISECONDS = 4000;

/** The names of these fields differ from logger to logger: see pipe/events/filters.py. */
const LEVELS = ["level", "severity", "severity_text", "log.level", "PRIORITY"];
const SERVICES = ["service", "service.name", "SYSLOG_IDENTIFIER", "container_name"];
const MESSAGES = ["msg", "message", "MESSAGE", "body", "event"];
const TIMES = ["time", "timestamp", "ts", "@timestamp"];

export function show(place, page) {
  const box = h("div", { class: "lines log-lines", role: "log", tabindex: "0", "aria-label": "Log lines", "aria-live": "off" });
  const lines = new Lines(box, (line) => drawn(line, page.user), LONGEST);
  const hint = h("div", { class: "lines-empty", hidden: true }, h("p", {}, "No line yet. Those that services log about you appear here as they come, and this server's own: streams that ended, logins that were refused."));
  const status = h("span", { class: "muted", role: "status" });
  const problem = alertBox();
  const level = choices([
    ["debug", "all"],
    ["info", "info and above"],
    ["warn", "warnings and errors"],
    ["error", "errors only"],
  ]);
  const service = word("any");
  const text = word("any", { type: "search", maxlength: "256" });
  const everybody = check("Everybody's lines");
  const gate = new Gate();
  const pause = h("button", { type: "button", class: "primary", onclick: () => hold(!gate.closed) }, "Pause");
  const clear = h("button", { type: "button", class: "quiet", onclick: () => lines.clear() }, "Clear");
  let control = null;
  let timer = 0;

  function hold(wanted) {
    gate.closed = wanted;
    say(pause, wanted ? "Continue" : "Pause");
    box.classList.toggle("lines-live", !wanted);
    tell();
  }

  let state = "";
  function tell(now = state) {
    state = now;
    say(status, state === "following" && gate.closed ? "paused: the server keeps what comes, and counts what finds no room" : state);
  }

  function wanted() {
    const options = { level: level.value };
    if (service.value.trim()) options.service = service.value.trim();
    if (text.value) options.grep = text.value;
    if (everybody.control.checked) options.all = "true";
    return options;
  }

  // Other lines are wanted: those that are shown go.
  function restart() {
    hold(false);
    lines.clear();
    hint.hidden = true;
    follow({ n: PAST });
  }

  async function follow(past) {
    clearTimeout(timer);
    control?.abort();
    control = new AbortController();
    const own = control;
    lines.tear();
    tell("asking the server …");
    try {
      await read(logsPath({ ...wanted(), ...past }), lines, own.signal, () => {
        problem.show("");
        tell("following");
        hint.hidden = false;
      }, () => gate.opened());
      again(own);
    } catch (error) {
      if (error.name === "AbortError" || own !== control) return;
      if (error.status >= 400 && error.status < 500) {
        tell("");
        problem.show(error.message);
      } else {
        again(own);
      }
    }
  }

  // What came meanwhile is asked for when the server answers again.
  let lost = 0;
  function again(own) {
    if (own !== control) return;
    if (state === "following") lost = Date.now();
    tell("the connection broke: trying again");
    timer = setTimeout(() => follow(lost ? { since: `${Date.now() - lost}ms` } : { n: PAST }), RETRY_MILLISECONDS);
  }

  let typing = 0;
  const typed = () => {
    clearTimeout(typing);
    typing = setTimeout(restart, TYPING_MILLISECONDS);
  };
  level.addEventListener("change", restart);
  everybody.control.addEventListener("change", restart);
  for (const one of [service, text]) one.addEventListener("input", typed);

  fill(
    place,
    heading(title, "What services, and this server, log about you: the last lines that are remembered, and then each as it comes."),
    h(
      "section",
      { class: "panel" },
      h(
        "div",
        { class: "filters" },
        field("Level", level),
        field("Service", service),
        field("Text in the line", text),
      ),
      page.admin && everybody.element,
      h("div", { class: "lines-frame" }, box, hint),
      problem.element,
      h("div", { class: "row row-spread" }, status, h("div", { class: "row" }, clear, pause)),
    ),
    h(
      "section",
      { class: "panel" },
      h("h2", {}, "From a shell"),
      command(`${page.ssh("logs")} | jq`, "Follow them"),
      command(page.ssh("logs --level warn --service web -f=false -n 50"), "The last warnings of one service"),
    ),
  );
  restart();
  return () => {
    clearTimeout(timer);
    clearTimeout(typing);
    const last = control;
    control = null;
    last?.abort();
    gate.closed = false;
  };
}

/** Holds up whoever reads, and so the server: nothing is gathered here. */
class Gate {
  #closed = false;
  #open = () => {};
  #waiting = Promise.resolve();

  get closed() {
    return this.#closed;
  }

  set closed(wanted) {
    if (wanted === this.#closed) return;
    this.#closed = wanted;
    if (wanted) this.#waiting = new Promise((resolve) => { this.#open = resolve; });
    else this.#open();
  }

  opened() {
    return this.#waiting;
  }
}

function drawn(line, user) {
  const fields = parsed(line);
  if (!fields) return h("div", { class: "line", dir: "auto" }, shown(line) || "\u200b");
  const rest = { ...fields };
  if (rest.user === user) delete rest.user;
  const take = (names) => {
    const name = names.find((one) => one in rest);
    const value = rest[name];
    delete rest[name];
    return value;
  };
  const level = take(LEVELS);
  const time = take(TIMES);
  const service = take(SERVICES);
  const message = take(MESSAGES);
  const others = Object.entries(rest).map(([name, value]) => `${name}=${written(value)}`);
  const parts = [
    time !== undefined && h("time", { title: written(time) }, clock(time)),
    level !== undefined && h("span", { class: "log-level" }, shown(written(level)).toUpperCase()),
    service !== undefined && h("span", { class: "log-service" }, shown(written(service))),
    message !== undefined && h("span", { class: "log-message" }, shown(written(message))),
    others.length > 0 && h("span", { class: "log-rest" }, shown(others.join(" "))),
  ].filter(Boolean);
  return h(
    "div",
    { class: `line log-${kindOf(level)}`, dir: "auto" },
    ...parts.flatMap((part, index) => (index ? [" ", part] : [part])),
  );
}

function parsed(line) {
  try {
    const fields = JSON.parse(line);
    return fields && typeof fields === "object" ? fields : null;
  } catch {
    return null;
  }
}

function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function shown(text) {
  return visible(text.length > MAX_LINE ? `${text.slice(0, MAX_LINE)}…` : text);
}

function clock(time) {
  const moment = new Date(typeof time === "number" && time < 1e11 ? time * 1000 : time);
  return Number.isNaN(moment.getTime()) ? shown(written(time)) : moment.toLocaleTimeString(undefined, { hourCycle: "h23" });
}

const SYSLOG = ["error", "error", "error", "error", "warn", "info", "info", "debug"];
const PINO = ["debug", "debug", "info", "warn", "error", "error"];

function kindOf(level) {
  const number = /^\d+$/.test(level) ? Number(level) : NaN;
  if (number < 8) return SYSLOG[number];
  if (number >= 10 && number < 70) return PINO[Math.floor(number / 10) - 1];
  const word = String(level).toLowerCase();
  if (/^(err|fatal|panic|crit|alert|emerg)/.test(word)) return "error";
  if (/^warn/.test(word)) return "warn";
  return /^(debug|trace)/.test(word) ? "debug" : "info";
}
