// Who is on a topic, as `stat` tells it, for as long as somebody looks.

import { stat } from "../api.js";
import { fill, h } from "../dom.js";
import { count, size, span } from "../format.js";
import { isMarked, table } from "./list.js";

const REFRESH_MILLISECONDS = 1000;

const MODES = { publish: "writes", subscribe: "reads", pipe: "both" };

/**
 * The figures of a topic's members. They are asked for each second, while the page is to be seen and
 * somebody is on the topic.
 */
export function members(topic, user) {
  const element = h("div", {});
  let timer = 0;
  let peopled = false;
  let over = false;

  async function look() {
    clearTimeout(timer);
    if (over || !peopled) return;
    if (!document.hidden) {
      try {
        const facts = await stat(topic);
        if (!over && peopled && !isMarked(element)) draw(element, facts, user);
      } catch {
        fill(element); // why is told where the rights are asked for
      }
    }
    clearTimeout(timer);
    if (!over) timer = setTimeout(look, REFRESH_MILLISECONDS);
  }

  return {
    element,
    /** Somebody is there, or nobody. */
    update(somebody) {
      if (somebody === peopled) return;
      peopled = somebody;
      if (somebody) look();
      else fill(element);
    },
    stop() {
      over = true;
      clearTimeout(timer);
    },
  };
}

function draw(place, facts, user) {
  const { sessions } = facts;
  if (!sessions.length) {
    fill(place);
    return;
  }
  const holders = [...new Set(sessions.filter((one) => one.clogged).map((one) => one.user))];
  const others = facts.members - sessions.length;
  fill(
    place,
    h(
      "section",
      { class: "panel" },
      h("h2", {}, "Who is here"),
      table(
        ["Who", "Does", "From", "Moved", "Rate", "State"],
        sessions.map((one) => [
          h("span", {}, h("strong", {}, one.user), one.user === user && " (you)"),
          MODES[one.mode] ?? one.mode,
          h("code", { class: "wrap" }, one.address),
          size(one.in_bytes + one.out_bytes),
          `${size(one.in_bytes_per_second + one.out_bytes_per_second)}/s`,
          state(one, holders),
        ]),
      ),
      others > 0 && h("p", { class: "hint" }, `and ${count(others, "other")}`),
    ),
  );
}

function state(one, holders) {
  const pill = (kind, text) => h("span", { class: `pill pill-${kind}` }, text);
  if (one.clogged) return pill("bad", `clogged for ${span(one.clogged_seconds ?? 0)}`);
  if (one.held_up) return pill("warn", `held up${holders.length ? ` by ${holders.join(", ")}` : ""}`);
  if (one.unfinished_readers) {
    return pill("warn", `waits for ${count(one.unfinished_readers, "reader")} to finish`);
  }
  if (one.waiting_for) return pill("warn", `waits for ${count(one.waiting_for, "reader")}`);
  return h("span", { class: "muted" }, "fine");
}
