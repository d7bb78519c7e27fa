// Where a terminal is opened: it has a page of its own, with a looser rule for styles.

import { command, fill, h } from "../dom.js";
import { fullName, topicPath } from "../format.js";
import { heading } from "./list.js";

export const title = "Terminal";

export function show(place, page) {
  const name = h("input", {
    type: "text",
    required: true,
    value: "desk",
    "aria-label": "Topic",
    autocapitalize: "none",
    autocomplete: "off",
    spellcheck: "false",
  });
  const there = document.body.dataset.terminal === "yes";
  fill(
    place,
    heading(title, "Keys go into a topic as you press them, and what comes out is drawn. A program at the other end makes it a terminal."),
    there ? opener(name, page) : missing(),
    h(
      "section",
      { class: "empty" },
      h("h2", {}, "Share a shell of yours"),
      h("p", {}, "On the machine whose shell it is; only you can reach the topic, unless you grant it:"),
      command(`mkfifo -m 600 ~/desk && ${page.ssh("pipe desk")} <~/desk | script -qfc bash /dev/null >~/desk`),
    ),
  );
}

function opener(name, page) {
  return h(
    "form",
    {
      class: "open-topic",
      onsubmit: (event) => {
        event.preventDefault();
        location.assign(`/terminal#${topicPath(fullName(name.value.trim(), page.user))}`);
      },
    },
    name,
    h("button", { type: "submit", class: "primary" }, "Open"),
  );
}

function missing() {
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "xterm.js is not installed"),
    h("p", {}, "This server runs from a checkout, which does not bring it. Its operator fetches it with:"),
    command("make web"),
  );
}
