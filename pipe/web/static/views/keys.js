// The user's keys, to look at: they are added and removed over SSH only, where a key proves itself.

import { keys } from "../api.js";
import { command, h } from "../dom.js";
import { date, relative } from "../format.js";
import { empty, fetched, heading, table } from "./list.js";

export const title = "Keys";

export function show(place, page) {
  place.append(
    heading(title, "Your SSH keys are your account. What lets a browser in cannot change them."),
    fetched(keys, (all) => (all.length ? keyTable(all) : none())).element,
    h(
      "section",
      { class: "panel" },
      h("h2", {}, "Change them over SSH"),
      command(`${page.ssh("keys add")} < new.pub`, "Add a key"),
      command(page.ssh("keys rm SHA256:…"), "Remove a key, and end the sessions that it let in"),
    ),
  );
}

function keyTable(all) {
  return table(
    ["Key", "Type", "Added", "Last used"],
    all.map((one) => [
      h(
        "div",
        {},
        h("strong", {}, one.comment || "without a comment"),
        one.current && h("span", { class: "pill pill-good" }, "let you in"),
        h("br"),
        h("code", { class: "muted wrap" }, one.fingerprint),
      ),
      h("code", {}, one.type.replace(/^ssh-/, "")),
      h("time", { title: date(one.created) }, relative(one.created)),
      one.last_used ? h("time", { title: date(one.last_used) }, relative(one.last_used)) : "never",
    ]),
  );
}

function none() {
  return empty("No key of yours is kept here", h("p", {}, "You log in with a certificate, or with a key in the operator's files."));
}
