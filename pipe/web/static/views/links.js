// Links: one topic, for people without an account.

import { addLink, removeToken, tokens } from "../api.js";
import { command, copyButton, field, h } from "../dom.js";
import { count, date, fullName, relative } from "../format.js";
import { creation, durations, empty, fetched, heading, removal, table } from "./list.js";
import { may } from "./tokens.js";

export const title = "Links";

export function show(place, page) {
  const list = fetched(
    async () => (await tokens()).filter((one) => one.kind === "link"),
    (all, reload) => (all.length ? linkTable(all, reload) : none(page)),
  );
  const topic = h("input", { type: "text", required: true, placeholder: "report", autocapitalize: "none", spellcheck: "false" });
  const direction = h("select", {}, h("option", { value: "read" }, "read it"), h("option", { value: "write" }, "write to it"));
  const lasts = durations("1d", "1h", "1d", "7d", "30d");
  const uses = h("input", { type: "number", min: "1", max: "10000", value: "1" });
  place.append(
    heading(title, "Whoever has a link may use one topic of yours, in one direction, without an account."),
    list.element,
    creation(
      "New link",
      [field("Topic", topic), field("Whoever has it may", direction), field("Lasts", lasts), field("Works how often", uses)],
      "Make a link",
      async () => {
        const made = await addLink({
          topic: fullName(topic.value.trim(), page.user),
          write: direction.value === "write",
          for: lasts.value,
          uses: uses.value,
        });
        list.reload();
        return linkBox(made);
      },
    ),
  );
}

/**
 * A link that was just made.
 *
 * @param {{url: string, qr: string}} link the picture is SVG
 */
export function linkBox(link) {
  return h(
    "div",
    { class: "secret" },
    h("p", {}, h("strong", {}, "Hand it on: "), "this is the only time that it is shown."),
    h("div", { class: "command-line" }, h("code", {}, link.url), copyButton(() => link.url, "Copy the link")),
    h("img", { class: "qr", alt: "The link as a QR code", src: `data:image/svg+xml,${encodeURIComponent(link.qr)}` }),
  );
}

function none(page) {
  return empty(
    "No links",
    h("p", {}, "Make one below, or over SSH, where it can be drawn into your terminal:"),
    command(page.ssh("link report --qr"), "A link that reads one topic, once"),
    h("p", {}, "Then write to the topic; the writer waits until somebody opens the link:"),
    command(`${page.ssh("pub report")} < report.pdf`),
  );
}

function linkTable(all, reload) {
  return table(
    ["May", "Until", "Left", ""],
    all.map((one) => [
      may(one),
      h("time", { title: date(one.until) }, relative(one.until)),
      one.uses_left === 0 ? "used up" : count(one.uses_left ?? 0, "time"),
      removal("Remove", "Remove this link? Whoever uses it is cut off.", async () => {
        await removeToken(one.id);
        await reload();
      }),
    ]),
  );
}
