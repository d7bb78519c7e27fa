// All topics that the user may see, as they live.

import { command, fill, h, say } from "../dom.js";
import { count, fullName, shortName, size, span, topicPath } from "../format.js";
import { sparkline } from "../sparkline.js";

export const title = "Topics";

export function show(place, page) {
  const rows = new Map();
  const list = h("ul", { class: "topics", "aria-label": "Topics" });
  const below = h("div", {});
  const summary = h("p", { class: "lead", role: "status" });
  const search = h("input", {
    type: "text",
    name: "topic",
    placeholder: "Find or open a topic",
    "aria-label": "Find or open a topic",
    autocapitalize: "none",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => update(),
  });
  const form = h(
    "form",
    {
      class: "open-topic",
      onsubmit: (event) => {
        event.preventDefault();
        const name = search.value.trim();
        if (name) location.hash = `#/topic/${topicPath(fullName(name, page.user))}`;
      },
    },
    search,
    h("button", { type: "submit" }, "Open"),
  );
  fill(
    place,
    h(
      "header",
      { class: "view-head" },
      h("div", {}, h("h1", { tabindex: "-1" }, title), summary),
      form,
    ),
    list,
    below,
  );

  function update() {
    const { live } = page;
    const wanted = search.value.trim();
    const topics = [...live.topics.values()].filter((topic) => topic.topic.includes(wanted));
    for (const [name, row] of rows) {
      if (!topics.some((topic) => topic.topic === name)) {
        row.element.remove();
        rows.delete(name);
      }
    }
    topics.forEach((topic, index) => {
      if (!rows.has(topic.topic)) rows.set(topic.topic, makeRow(topic.topic, page));
      const row = rows.get(topic.topic);
      row.update(topic, live.series(topic.topic));
      if (list.children[index] !== row.element) list.insertBefore(row.element, list.children[index]);
    });
    list.hidden = topics.length === 0;
    say(summary, live.known ? sum(live.topics) : "Asking the server …");
    showEmptiness(live.known && topics.length === 0 ? wanted || "nothing" : "");
  }

  let shown = "";
  function showEmptiness(why) {
    if (why === shown) return;
    shown = why;
    fill(below, why && (why === "nothing" ? firstSteps(page) : nothingFound(why)));
  }

  const stop = page.live.listen(update);
  const timer = setInterval(update, 1000);
  return () => {
    stop();
    clearInterval(timer);
  };
}

function sum(topics) {
  const all = [...topics.values()];
  if (all.length === 0) return "No topic is in use right now.";
  const rate = all.reduce((total, topic) => total + topic.in_bytes_per_second, 0);
  const waiting = all.filter((topic) => topic.waiting).length;
  const parts = [count(all.length, "topic"), `${size(rate)}/s`];
  if (waiting) parts.push(`${waiting} waiting for a reader`);
  return parts.join(" · ");
}

function makeRow(name, page) {
  const spark = sparkline();
  const state = h("span", { class: "pill", hidden: true });
  const members = h("span", { class: "muted" });
  const rate = h("span", { class: "figure" });
  const total = h("span", { class: "muted" });
  const element = h(
    "li",
    {},
    h(
      "a",
      { class: "topic", href: `#/topic/${topicPath(name)}` },
      h(
        "span",
        { class: "topic-name" },
        nameOf(name, page.user),
        h("span", { class: "topic-facts" }, members, state),
      ),
      spark.element,
      h("span", { class: "topic-rate" }, rate, total),
    ),
  );
  return {
    element,
    update(topic, series) {
      const { text, kind } = stateOf(topic);
      say(members, membersOf(topic));
      say(state, text);
      state.hidden = !text;
      state.className = `pill pill-${kind}`;
      say(rate, `${size(topic.in_bytes_per_second)}/s`);
      rate.classList.toggle("figure-idle", !topic.in_bytes_per_second);
      say(total, `${size(topic.in_bytes)} in all`);
      spark.draw(series);
    },
  };
}

/** A name with its owner in the background. */
export function nameOf(topic, user) {
  const short = shortName(topic, user);
  const at = short.indexOf("/");
  if (at < 0) return h("code", { class: "name" }, short);
  return h(
    "code",
    { class: "name" },
    h("span", { class: "owner" }, short.slice(0, at + 1)),
    short.slice(at + 1),
  );
}

/** Who is on a topic, in numbers. */
export function membersOf(topic) {
  const parts = [];
  if (topic.publishers) parts.push(count(topic.publishers, "writer"));
  if (topic.subscribers) parts.push(count(topic.subscribers, "reader"));
  if (topic.pipes) parts.push(count(topic.pipes, "pipe"));
  return parts.join(" · ") || "nobody";
}

/** What holds a topic up, or that it flows. */
export function stateOf(topic) {
  if (topic.clogged) {
    return {
      kind: "bad",
      text: `${count(topic.clogged, "reader")} clogged for ${span(topic.clogged_seconds ?? 0)}`,
    };
  }
  if (topic.waiting) return { kind: "warn", text: "waits for a reader" };
  if (topic.in_bytes_per_second) return { kind: "good", text: "flowing" };
  return { kind: "idle", text: "" };
}

function firstSteps(page) {
  return h(
    "section",
    { class: "empty" },
    h("h2", {}, "Nothing flows yet. Try it:"),
    h("p", {}, "A topic is only a name, and is here as long as somebody is on it. In one terminal, read:"),
    command(page.ssh("sub hello"), "Read from a topic"),
    h("p", {}, "In another one, write:"),
    command(`echo "hello, world" | ${page.ssh("pub hello")}`, "Write to it"),
    h(
      "p",
      {},
      "Or without a terminal: ",
      h("a", { href: `#/topic/${topicPath(`${page.user}/hello`)}` }, "open the topic hello"),
      ", follow it, and send it some text.",
    ),
  );
}

function nothingFound(name) {
  return h(
    "section",
    { class: "empty" },
    h("h2", {}, "No topic in use has this in its name"),
    h("p", {}, "Press Enter to open ", h("code", {}, name), " all the same: whoever comes first makes it."),
  );
}
