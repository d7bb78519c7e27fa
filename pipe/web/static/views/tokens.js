// Tokens for programs, and where else the user is logged in.

import { addToken, removeToken, tokens } from "../api.js";
import { command, copyButton, field, h } from "../dom.js";
import { date, relative } from "../format.js";
import { creation, durations, empty, fetched, heading, removal, split, table } from "./list.js";

export const title = "Tokens";

export function show(place, page) {
  const list = fetched(tokens, (all, reload) => {
    const own = all.filter((one) => one.kind === "token");
    const logins = all.filter((one) => one.kind === "login");
    return h("div", {}, own.length ? tokenTable(own, reload) : none(page), loginSection(logins, reload));
  });
  const name = h("input", { type: "text", maxlength: "64", placeholder: "backup on web1" });
  const reads = h("input", { type: "text", placeholder: "build, ci-*", autocapitalize: "none", spellcheck: "false" });
  const writes = h("input", { type: "text", placeholder: "log", autocapitalize: "none", spellcheck: "false" });
  const lasts = durations("90d", "1d", "7d", "30d", "90d", "365d");
  place.append(
    heading(title, "A token lets a program in over HTTP, to the topics that you name and no others."),
    list.element,
    creation(
      "New token",
      [
        field("What it is for", name),
        field("May read", reads, "Names and patterns, with commas between them"),
        field("May write", writes),
        field("Lasts", lasts),
      ],
      "Make a token",
      async () => {
        const made = await addToken({
          name: name.value,
          read: patterns(reads.value),
          write: patterns(writes.value),
          for: lasts.value,
        });
        list.reload();
        return h(
          "div",
          { class: "secret" },
          h("p", {}, h("strong", {}, "Copy it now: "), "this is the only time that it is shown."),
          h("div", { class: "command-line" }, h("code", {}, made.token), copyButton(() => made.token, "Copy the token")),
        );
      },
    ),
  );
}

function none(page) {
  return empty(
    "No tokens",
    h("p", {}, "Make one below, or over SSH:"),
    command(page.ssh("tokens add --read build --name ci"), "A token that may read one topic"),
    h("p", {}, "Then every program that speaks HTTP can read it:"),
    command(`curl -u ${page.user}:$TOKEN ${document.body.dataset.url}/t/build`),
  );
}

function tokenTable(all, reload) {
  return table(
    ["Name", "May", "Until", "Last used", ""],
    all.map((one) => [
      h("div", {}, h("strong", {}, one.name || "without a name"), h("br"), h("code", { class: "muted" }, one.id)),
      may(one),
      h("time", { title: date(one.until) }, relative(one.until)),
      lastUse(one),
      removal("Remove", `Remove the token “${one.name || one.id}”? Its programs lose access at once.`, async () => {
        await removeToken(one.id);
        await reload();
      }),
    ]),
  );
}

function loginSection(all, reload) {
  if (all.length === 0) return "";
  return h(
    "section",
    {},
    h("h2", {}, "Browsers that are logged in"),
    table(
      ["Browser", "Until", "Last used", ""],
      all.map((one) => [
        h("div", {}, one.current ? h("strong", {}, "this one") : one.name || "another one"),
        h("time", { title: date(one.until) }, relative(one.until)),
        one.current ? "now" : lastUse(one),
        one.current
          ? ""
          : removal("Log out", "Log that browser out?", async () => {
              await removeToken(one.id);
              await reload();
            }),
      ]),
    ),
  );
}

// As the command takes them: with commas; null where there are none.
function patterns(text) {
  return split(text).join() || null;
}

/** What a token may do. */
export function may(one) {
  if (one.read === null) return "all that you may, but change keys";
  const part = (verb, names) =>
    names.length > 0 && h("div", {}, `${verb} `, ...names.flatMap((name) => [h("code", {}, name), " "]));
  return h("div", {}, part("read", one.read), part("write", one.write));
}

/** When and from where something was used. */
export function lastUse(one) {
  if (!one.used) return "never";
  return h("div", { title: date(one.used) }, relative(one.used), one.used_from && ` from ${one.used_from}`);
}
