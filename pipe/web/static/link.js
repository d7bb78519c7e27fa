// What somebody who has a link may do: take the stream, or send one.

import { alertBox, command, fill, h, icon, say } from "./dom.js";
import { Lines, read } from "./tail.js";
import { sender } from "./upload.js";

const raw = `${location.pathname}/raw`;
const place = document.getElementById("act");
const { direction, url } = document.body.dataset;

fill(place, ...(direction === "write" ? writing() : reading()));

function writing() {
  return [sender(() => raw, { mayChoose: false }), command(`curl -T FILE ${url}/raw`, "From a shell")];
}

function reading() {
  const box = h("div", { class: "lines", role: "log", tabindex: "0", hidden: true, "aria-label": "What is read" });
  const status = h("p", { class: "muted", role: "status" });
  const problem = alertBox();
  const text = h(
    "button",
    {
      type: "button",
      onclick: async () => {
        buttons.hidden = true;
        box.hidden = false;
        say(status, "waiting for the sender …");
        const lines = new Lines(box);
        try {
          await read(raw, lines, undefined, () => say(status, "it flows"));
          say(status, "that was all of it");
        } catch (error) {
          say(status, "");
          problem.show(error.status === undefined ? "the stream broke: this is not all of it" : error.message);
        }
      },
    },
    "Show it as text",
  );
  const download = h(
    "a",
    {
      class: "button primary",
      href: raw,
      download: "",
      onclick: () => say(status, "Your browser waits for the sender, and marks the download as failed if the stream breaks."),
    },
    icon("down"),
    "Receive it as a file",
  );
  const buttons = h("div", { class: "row" }, download, text);
  return [buttons, status, problem.element, box, command(`curl -fOJ ${url}/raw`, "From a shell")];
}
