// Lasting access of other users.

import { addGrant, grants, removeGrant } from "../api.js";
import { command, field, h } from "../dom.js";
import { date, fullName, relative } from "../format.js";
import { creation, durations, empty, fetched, heading, removal, split, table } from "./list.js";
import { nameOf } from "./topics.js";

export const title = "Grants";

export function show(place, page) {
  const list = fetched(grants, (all, reload) => {
    const given = all.filter((one) => one.given);
    const received = all.filter((one) => !one.given);
    return h(
      "div",
      {},
      given.length ? givenTable(given, page, reload) : none(page),
      received.length ? receivedSection(received, page) : "",
    );
  });
  const topic = h("input", { type: "text", required: true, placeholder: "report", autocapitalize: "none", spellcheck: "false" });
  const who = h("input", { type: "text", required: true, placeholder: "bob", autocapitalize: "none", spellcheck: "false" });
  const operation = h(
    "select",
    {},
    h("option", { value: "read" }, "read it"),
    h("option", { value: "write" }, "write to it"),
    h("option", { value: "both" }, "read it and write to it"),
  );
  const lasts = durations("", "1d", "7d", "30d", "");
  place.append(
    heading(title, "Let other users, or keys, use a topic of yours, until you take that back."),
    list.element,
    creation(
      "New grant",
      [
        field("Topic", topic),
        field("Who", who, "Users or SHA256:… of keys, with commas; @users is everyone with an account"),
        field("They may", operation),
        field("Lasts", lasts),
      ],
      "Grant",
      async () => {
        await addGrant({
          topic: fullName(topic.value.trim(), page.user),
          who: split(who.value),
          read: operation.value !== "write",
          write: operation.value !== "read",
          for: lasts.value || null,
        });
        await list.reload();
        return h("p", { class: "done" }, `${who.value} may use it now`);
      },
    ),
  );
}

function none(page) {
  return empty(
    "You share nothing yet",
    h("p", {}, "Grant a topic below, or over SSH:"),
    command(page.ssh("grant report bob --read --for 1d"), "Let bob read one topic for a day"),
  );
}

function operation(one) {
  if (one.read && one.write) return "read and write";
  return one.read ? "read" : "write";
}

function until(one) {
  if (one.until === null) return "no end";
  return h("time", { title: date(one.until) }, relative(one.until));
}

function givenTable(all, page, reload) {
  return table(
    ["Topic", "Who", "May", "Until", ""],
    all.map((one) => [
      nameOf(one.topic, page.user),
      one.grantee === "@users" ? "everyone with an account" : h("span", { class: "wrap" }, one.grantee),
      operation(one),
      until(one),
      removal("Revoke", `Revoke what ${one.grantee} may do on ${one.topic}? Sessions that need it end at once.`, async () => {
        await removeGrant(one.topic, one.grantee);
        await reload();
      }),
    ]),
  );
}

function receivedSection(all, page) {
  return h(
    "section",
    {},
    h("h2", {}, "Granted to you"),
    table(
      ["Topic", "May", "Until", "By"],
      all.map((one) => [
        h("a", { href: `#/topic/${one.topic}` }, nameOf(one.topic, page.user)),
        operation(one),
        until(one),
        one.granted_by,
      ]),
    ),
  );
}
