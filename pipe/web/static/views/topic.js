// One topic: read it, write to it, share it, and see who is there.

import { addLink, explain, streamPath } from "../api.js";
import { alertBox, command, field, fill, h, icon, say } from "../dom.js";
import { date, fullName, shortName, size, topicPath } from "../format.js";
import { sparkline } from "../sparkline.js";
import { Lines, read } from "../tail.js";
import { sender } from "../upload.js";
import { linkBox } from "./links.js";
import { members } from "./members.js";
import { membersOf, nameOf, stateOf } from "./topics.js";

export const title = "Topic";
export const under = "topics";

const RULES = {
  owner: "you are its owner",
  public: "public topics are open to every user",
  creator_list: "you are on the list of the member that created it",
  user_grant: "it was granted to you",
  key_grant: "it was granted to your key",
  everyone_grant: "it was granted to everyone with an account",
  owner_list: "a session of its owner shares it with you",
  admin: "you are an admin",
  scope: "your token does not reach it",
  not_listed: "the member that created it did not put you on its list",
  private: "its owner does not share it with you",
};

export function show(place, page, argument) {
  const topic = fullName(argument, page.user);
  const short = shortName(topic, page.user);
  const own = topic.startsWith(`${page.user}/`);
  const spark = sparkline();
  const state = h("span", { class: "pill", hidden: true });
  const counts = h("span", {});
  const rate = h("span", { class: "figure" });
  const reading = tail(topic);
  const people = members(topic, page.user);
  const rights = h("div", {});
  const problem = alertBox();

  fill(
    place,
    h(
      "div",
      { class: "row row-spread" },
      h("a", { class: "back", href: "#/topics" }, icon("back"), "Topics"),
      h(
        "div",
        { class: "row" },
        h("a", { class: "button quiet", href: `#/chat/${topicPath(topic)}` }, icon("chat"), "Chat"),
        h("a", { class: "button quiet", href: `/terminal#${topicPath(topic)}` }, icon("terminal"), "Terminal"),
      ),
    ),
    h(
      "header",
      { class: "topic-head" },
      h(
        "div",
        {},
        h("h1", { tabindex: "-1" }, nameOf(topic, page.user)),
        h("p", { class: "topic-facts lead" }, counts, state),
      ),
      h("div", { class: "topic-flow" }, spark.element, rate),
    ),
    problem.element,
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "column" },
        reading.element,
        panel(
          "Send",
          sender(({ block }) => `${streamPath(topic)}${block ? "" : "?block=false"}`),
        ),
        people.element,
      ),
      h(
        "div",
        { class: "column column-side" },
        panel(
          "From a shell",
          command(page.ssh(`sub ${short}`), "Read"),
          command(`${page.ssh(`pub ${short}`)} < FILE`, "Write"),
          h(
            "details",
            {},
            h("summary", {}, "With curl"),
            h("p", { class: "hint" }, "$TOKEN is a ", h("a", { href: "#/tokens" }, "token"), " that reaches this topic."),
            command(`curl -u ${page.user}:$TOKEN ${curlAddress(short)}`, "Read"),
            command(`curl -u ${page.user}:$TOKEN -T FILE ${curlAddress(short)}`, "Write"),
          ),
        ),
        own && panel("Share", sharing(topic)),
        panel("Your rights", rights),
      ),
    ),
  );

  let seen = null;
  async function look() {
    try {
      const facts = await explain(topic);
      problem.show("");
      showRights(rights, facts);
    } catch (error) {
      problem.show(error.message);
      fill(rights, h("p", { class: "muted" }, "unknown"));
    }
  }

  function update() {
    const now = page.live.topics.get(topic);
    const { kind, text } = stateOf(now ?? {});
    say(counts, now ? membersOf(now) : "nobody is here");
    say(state, text);
    state.hidden = !text;
    state.className = `pill pill-${kind}`;
    say(rate, `${size(now?.in_bytes_per_second ?? 0)}/s`);
    rate.classList.toggle("figure-idle", !now?.in_bytes_per_second);
    spark.draw(page.live.series(topic));
    const who = now ? [now.publishers, now.subscribers, now.pipes, now.waiting, now.clogged].join() : "";
    if (who !== seen) {
      seen = who;
      look();
    }
    people.update(Boolean(now));
  }

  const stop = page.live.listen(update);
  const timer = setInterval(update, 1000);
  return () => {
    stop();
    clearInterval(timer);
    reading.stop();
    people.stop();
  };
}

function curlAddress(topic) {
  return `${document.body.dataset.url}/t/${topicPath(topic).replaceAll("%40", "@").replaceAll("%3A", ":")}`;
}

function panel(heading, ...children) {
  return h("section", { class: "panel" }, h("h2", {}, heading), ...children);
}

// Following is an act: a writer that waits for a reader starts. So it never begins by itself.
function tail(topic) {
  const box = h("div", { class: "lines", role: "log", tabindex: "0", "aria-label": "What is read", "aria-live": "off" });
  const hint = h(
    "p",
    { class: "lines-empty" },
    "Follow shows what is written from now on. You become a reader then: a writer that waits for one starts.",
  );
  const lines = new Lines(box);
  const status = h("span", { class: "muted", role: "status" });
  const problem = alertBox();
  const toggle = h("button", { type: "button", class: "primary", onclick: () => (control ? stop() : follow()) }, "Follow");
  const clear = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => lines.clear() }, "Clear");
  const name = topic.split("/").at(-1);
  const download = h(
    "a",
    { class: "button", href: streamPath(topic), download: name, onclick: () => say(status, "your browser waits for a writer, and marks the download as failed if the stream breaks") },
    icon("down"),
    "Download",
  );
  let control = null;

  async function follow() {
    control = new AbortController();
    const own = control;
    hint.remove();
    box.classList.add("lines-live");
    problem.show("");
    say(toggle, "Stop");
    say(status, "joining …");
    clear.hidden = false;
    try {
      await read(`${streamPath(topic)}?persist=true&slow=drop`, lines, own.signal, () => {
        say(status, "following");
      });
      say(status, "the stream has ended");
    } catch (error) {
      say(status, "");
      if (error.name !== "AbortError") {
        problem.show(error.status === undefined ? "the stream broke" : error.message);
      }
    }
    if (control === own) ended();
  }

  function ended() {
    control = null;
    box.classList.remove("lines-live");
    say(toggle, "Follow");
  }

  function stop() {
    control?.abort();
    ended();
  }

  const element = h(
    "section",
    { class: "panel" },
    h(
      "div",
      { class: "panel-head" },
      h("h2", {}, "Read"),
      h("div", { class: "row" }, download, toggle),
    ),
    h("div", { class: "lines-frame" }, hint, box),
    h("div", { class: "row row-spread" }, status, clear),
    problem.element,
  );
  return { element, stop };
}

function sharing(topic) {
  const problem = alertBox();
  const made = h("div", {});
  const direction = h(
    "select",
    {},
    h("option", { value: "read" }, "read it"),
    h("option", { value: "write" }, "write to it"),
  );
  const form = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        problem.show("");
        try {
          const link = await addLink({ topic, write: direction.value === "write", for: "1d", uses: "1" });
          fill(made, linkBox(link));
        } catch (error) {
          problem.show(error.message);
        }
      },
    },
    field("Somebody without an account may", direction),
    h("button", { type: "submit" }, "Make a link"),
    h("p", { class: "hint" }, "It works once, within a day. ", h("a", { href: "#/links" }, "Others"), " may last longer."),
  );
  return h(
    "div",
    {},
    form,
    problem.element,
    made,
    h("p", { class: "hint" }, "Users get a ", h("a", { href: "#/grants" }, "grant"), " instead."),
  );
}

function showRights(place, facts) {
  const row = (verb, { allowed, rule, until }) =>
    h(
      "div",
      { class: "right" },
      h("dt", {}, verb),
      h(
        "dd",
        {},
        h("span", { class: `pill pill-${allowed ? "good" : "bad"}` }, allowed ? "yes" : "no"),
        " ",
        RULES[rule] ?? rule,
        until ? `, until ${date(until)}` : "",
      ),
    );
  fill(place, h("dl", {}, row("read", facts.read), row("write", facts.write)));
}
