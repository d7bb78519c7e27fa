// A room: the same as `chat TOPIC` over SSH. The server says whose each line is.

import { socketAddress } from "../api.js";
import { command, fill, h, icon, say } from "../dom.js";
import { fullName, shortName, topicPath, visible } from "../format.js";
import { Lines } from "../tail.js";
import { membersOf, nameOf } from "./topics.js";
import { heading } from "./list.js";

export const title = "Chat";

/** What a WebSocket closes with when all is well. */
const NORMAL = 1000;

export function show(place, page, argument) {
  return argument ? room(place, page, fullName(argument, page.user)) : door(place, page);
}

/** Past lines that come first. */
const PAST = 50;

/** Characters of an event as JSON: a line has 8192 bytes, of which each may be written as six. */
const MAX_EVENT = 65536;

/** Draw an event: see pipe/chat/events.py. */
function drawn(line) {
  const event = JSON.parse(line);
  const text = visible(event.text ?? "");
  const name = h("strong", {}, event.name ?? "");
  switch (event.type) {
    case "message":
      return row({}, name, ": ", text);
    case "action":
      return row({}, "* ", name, " ", text);
    case "join":
      return row({ class: "line muted" }, `${event.name} has come`);
    case "leave":
      return row({ class: "line muted" }, `${event.name} has left`);
    case "rename":
      return row({ class: "line muted" }, `${event.name} is now ${event.new_name}`);
    default:
      return row({ class: "line muted" }, text);
  }
}

function row(attributes, ...content) {
  return h("div", { class: "line", dir: "auto", ...attributes }, ...content);
}

function door(place, page) {
  const name = h("input", {
    type: "text",
    required: true,
    "aria-label": "Topic",
    placeholder: "public/tea",
    autocapitalize: "none",
    autocomplete: "off",
    spellcheck: "false",
  });
  fill(
    place,
    heading(title, "Any topic is a room. Whoever is on it, here or in a terminal, hears what you say."),
    h(
      "form",
      {
        class: "open-topic",
        onsubmit: (event) => {
          event.preventDefault();
          location.hash = `#/chat/${topicPath(fullName(name.value.trim(), page.user))}`;
        },
      },
      name,
      h("button", { type: "submit", class: "primary" }, "Join"),
    ),
    h(
      "section",
      { class: "empty" },
      h("h2", {}, "Who may join?"),
      h("p", {}, "A room of your own is for you and whom you ", h("a", { href: "#/grants" }, "grant"), " it. Everyone with an account may join what begins with ", h("code", {}, "public/"), ":"),
      command(page.sshInTerminal("chat public/tea"), "Join from a terminal"),
    ),
  );
}

function room(place, page, topic) {
  const box = h("div", {
    class: "lines chat-lines",
    role: "log",
    tabindex: "0",
    "aria-label": "What was said",
    "aria-live": "polite",
  });
  const lines = new Lines(box, drawn, MAX_EVENT);
  const presence = h("span", { class: "muted" }, "…");
  const status = h("p", { class: "muted", role: "status" }, "joining …");
  const again = h("button", { type: "button", hidden: true, onclick: () => join() }, "Join again");
  const words = h("input", {
    type: "text",
    "aria-label": "Say something",
    placeholder: "Say something",
    autocomplete: "off",
    enterkeyhint: "send",
    disabled: true,
  });
  const submit = h("button", { type: "submit", class: "primary", disabled: true }, "Send");
  let socket = null;

  fill(
    place,
    h("a", { class: "back", href: `#/topic/${topicPath(topic)}` }, icon("back"), "Topic"),
    h(
      "header",
      { class: "view-head" },
      h("h1", { tabindex: "-1" }, nameOf(topic, page.user)),
      presence,
    ),
    h("div", { class: "lines-frame" }, box, h("p", { class: "lines-empty" }, "Nobody has written anything yet.")),
    h(
      "form",
      {
        class: "chat-say",
        onsubmit: (event) => {
          event.preventDefault();
          if (words.value) speak(words.value);
          words.value = "";
        },
      },
      words,
      submit,
    ),
    h("div", { class: "row row-spread" }, status, again),
    h(
      "details",
      {},
      h("summary", {}, "From a terminal"),
      command(page.sshInTerminal(`chat ${shortName(topic, page.user)}`)),
    ),
  );

  function speak(text) {
    socket.send(`${text}\n`);
    const own = row({ class: "line line-own" }, h("strong", {}, page.user), ": ", visible(text));
    lines.add([own]);
    box.scrollTop = box.scrollHeight;
  }

  function join() {
    const own = new WebSocket(socketAddress(topic, { mode: "chat", format: "text", json: true, lines: PAST }));
    socket = own;
    lines.clear(); // what was said before comes again
    again.hidden = true;
    own.onopen = () => {
      say(status, "");
      words.disabled = submit.disabled = false;
      words.focus();
    };
    own.onmessage = (event) => lines.take(event.data, event.data.length);
    own.onclose = (event) => {
      if (socket !== own) return;
      words.disabled = submit.disabled = true;
      say(status, event.reason || (event.code === NORMAL ? "the room has closed" : "you may not join, or the connection was lost"));
      again.hidden = false;
    };
  }

  join();
  const stop = page.live.listen(() => {
    const now = page.live.topics.get(topic);
    say(presence, now ? membersOf(now) : "");
  });
  return () => {
    stop();
    const own = socket;
    socket = null;
    own.close(NORMAL);
  };
}
