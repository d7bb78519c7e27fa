// A room: the same as `pipe TOPIC` over SSH, one line for each thing said.

import { socketAddress } from "../api.js";
import { check, command, fill, h, icon, say } from "../dom.js";
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

// Who says it stands in front by custom. Nobody checks it: a room is a stream of bytes.
function said(line) {
  const [, name = "", rest] = /^([a-z][a-z0-9_-]{0,31}:)?(.*)$/s.exec(visible(line));
  return h("div", { class: "line", dir: "auto" }, name && h("strong", {}, name), rest);
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
    heading(title, "Any topic is a room. Whoever is on it with a pipe, here or in a terminal, hears what you say."),
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
      command(page.ssh("pipe public/tea"), "Join from a terminal"),
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
  const lines = new Lines(box, said);
  const presence = h("span", { class: "muted" }, "…");
  const status = h("p", { class: "muted", role: "status" }, "joining …");
  const again = h("button", { type: "button", hidden: true, onclick: () => join() }, "Join again");
  const named = check(`Put “${page.user}: ” before what I say`, { checked: true });
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
    h("div", { class: "lines-frame" }, box),
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
    h("div", { class: "row row-spread" }, named.element, status, again),
    h(
      "details",
      {},
      h("summary", {}, "From a terminal"),
      command(page.ssh(`pipe ${shortName(topic, page.user)}`)),
    ),
  );

  function speak(text) {
    const line = named.control.checked ? `${page.user}: ${text}` : text;
    socket.send(`${line}\n`);
    const own = said(line);
    own.classList.add("line-own");
    lines.add([own]);
    box.scrollTop = box.scrollHeight;
  }

  function join() {
    const own = new WebSocket(socketAddress(topic, { mode: "pipe", format: "text", frame: "line" }));
    socket = own;
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
