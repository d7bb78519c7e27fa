// Monitors: what comes on topics, and what does not.

import { addMonitor, monitorAddresses, monitors, pauseMonitor, removeMonitor, renewMonitorAddresses, resumeMonitor } from "../api.js";
import { alertBox, command, field, fill, h, svg } from "../dom.js";
import { count, date, duration, percent, relative, shortName, size } from "../format.js";
import { action, card, cards, choices, creation, empty, facts, heading, Notes, refreshed, removal, word } from "./list.js";
import { nameOf } from "./topics.js";

export const title = "Monitors";

const STATES = { up: "good", late: "warn", down: "bad" };

/** Shares of a day that was up or down as a whole, as far as a bar shows it: see pipe/web/feeds.py. */
const UP_FROM = 0.9995;
const DOWN_BELOW = 0.5;

export function show(place, page) {
  const notes = new Notes();
  const addresses = sharing();
  const list = refreshed(monitors, (all, reload) => {
    addresses.hidden = all.length === 0;
    if (all.length === 0) return none(page);
    const worst = [...all].sort((one, other) => (other.state === "down") - (one.state === "down"));
    return h(
      "div",
      { class: "cards" },
      h("p", { class: "lead" }, summary(all)),
      cards("Monitors", worst.map((one) => monitorCard(one, page, notes.of(one.topic), reload))),
    );
  });
  place.append(
    heading(title, "A monitor watches a topic, and raises an alert when nothing comes there that should have come."),
    list.element,
    addresses,
    form(page, list),
  );
  return list.stop;
}

function form(page, list) {
  const topic = word("nightly", { required: true });
  const every = word("1d", { required: true });
  const on = choices([
    ["bytes", "whatever is sent"],
    ["end", "a stream that ends well, with status 0"],
  ]);
  const alert = word("alerts");
  const grace = word("a tenth of that");
  const least = word("nothing");
  return creation(
    "New monitor",
    [
      field("Topic", topic, "For one that has a monitor, this changes what is expected"),
      field("How often something comes", every, "Such as 90s, 1h, 7d"),
      field("A sign of life is", on),
      field("Alerts go to the topic", alert),
      field("How much later it may be", grace, "Such as 5m"),
      field("Each time it brings at least", least, "Such as 64KiB, 1GiB: half a backup is none"),
    ],
    "Watch it",
    async () => {
      const name = topic.value.trim();
      const { message } = await addMonitor({
        topic: name,
        every: every.value.trim(),
        grace: grace.value.trim() || null,
        on: on.value,
        "min-bytes": least.value.trim() || null,
        alert: alert.value.trim() || null,
      });
      await list.reload();
      return h(
        "div",
        { class: "secret" },
        h("p", { class: "wrap" }, message),
        h("p", {}, "No alert comes before something has come. Have the job tell of its end:"),
        command(`./job; ${page.ssh(`pub -e -b=false -x $? ${name}`)}`),
      );
    },
  );
}

function none(page) {
  return empty(
    "No monitors",
    h("p", {}, "A backup that has not run for a day, a sensor that is silent: hear of it. Make a monitor below, or over SSH:"),
    command(page.ssh("monitor add nightly --every 1d --on end"), "Expect a job each day"),
    h("p", {}, "Have the job tell of its end, and read the alerts:"),
    command(`./backup; ${page.ssh("pub -e -b=false -x $? nightly")}`, "In the crontab"),
    command(page.ssh("sub -k alerts")),
  );
}

function summary(all) {
  const down = all.filter((one) => one.state === "down").length;
  return `${count(all.length, "monitor")} · ${down ? `${down} down` : "none down"}`;
}

function monitorCard(one, page, note, reload) {
  const label = shortName(one.topic, page.user);
  const told = async (asking) => {
    const { message } = await asking;
    await reload();
    return message;
  };
  const key = `${one.topic} pause`;
  return card(
    nameOf(one.topic, page.user),
    { text: one.state, kind: STATES[one.state] ?? "idle" },
    [
      one.state === "paused"
        ? action(key, "Resume", label, note, () => told(resumeMonitor(one.topic)))
        : action(key, "Pause", label, note, () => told(pauseMonitor(one.topic))),
      ...removal(
        "Remove",
        `Watch ${one.topic} no more, and forget how it was?`,
        async () => {
          await removeMonitor(one.topic);
          await reload();
        },
        { "data-key": `${one.topic} remove`, "aria-label": `Remove: ${label}` },
      ),
    ],
    h(
      "p",
      { class: "wrap" },
      one.reason,
      " ",
      h("time", { class: "muted", title: date(one.since) }, `(${one.state} since ${date(one.since)})`),
    ),
    one.days && bars(one.days),
    one.uptime && shares(one.uptime),
    facts({
      "Last seen": one.last_seen ? h("time", { title: date(one.last_seen) }, relative(one.last_seen)) : "never",
      Expected: expected(one),
      "Alerts on": h("code", { class: "wrap" }, shortName(one.alert, page.user)),
    }),
    note,
  );
}

function expected(one) {
  const what = one.on === "end" ? "a good end" : "something";
  const parts = [`${what} every ${duration(one.every)}`, `${duration(one.grace)} of grace`];
  if (one.min_bytes) parts.push(`${size(one.min_bytes)} at least`);
  if (one.min_rate) parts.push(`${size(one.min_rate)}/s at least`);
  if (one.remind) parts.push(`a reminder every ${duration(one.remind)}`);
  return parts.join(", ");
}

function shares(uptime) {
  return h(
    "dl",
    { class: "spans", "aria-label": "Uptime" },
    ...Object.entries(uptime).map(([name, ratio]) => h("div", {}, h("dt", {}, name), h("dd", {}, percent(ratio)))),
  );
}

// One bar for each day, the oldest at the left; the same as on the status page.
function bars(days) {
  const day = new Date();
  const shown = days.map((ratio, index) => {
    const when = new Date(day.getTime() - (days.length - 1 - index) * 86_400_000).toISOString().slice(0, 10);
    return svg(
      "rect",
      { class: `day${kindOf(ratio)}`, x: index * 8, width: 6, height: 32 },
      svg("title", {}, `${when}: ${ratio === null ? "not known" : `up for ${percent(ratio)}`}`),
    );
  });
  return h(
    "div",
    {},
    svg(
      "svg",
      {
        class: "days",
        viewBox: `0 0 ${days.length * 8} 32`,
        preserveAspectRatio: "none",
        role: "img",
        "aria-label": `The last ${days.length} days, one bar each`,
      },
      ...shown,
    ),
    h("p", { class: "days-ends" }, h("span", {}, `${days.length} days ago`), h("span", {}, "today")),
  );
}

function kindOf(ratio) {
  if (ratio === null) return "";
  if (ratio >= UP_FROM) return " day-up";
  return ratio < DOWN_BELOW ? " day-down" : " day-part";
}

// Asked for only when somebody wants them: whoever has one needs no account.
function sharing() {
  const problem = alertBox();
  const shown = h("div", { class: "cards", "aria-live": "polite" });
  async function ask(asking) {
    problem.show("");
    const { feed, badge, page } = await asking();
    fill(
      shown,
      command(feed, "For a feed reader: the newest changes"),
      command(badge, "A badge: all of them in a word, or one with ?topic=NAME"),
      command(page, "A status page, with a bar for each day"),
    );
  }
  const box = h(
    "details",
    {
      ontoggle: async () => {
        if (!box.open || shown.hasChildNodes()) return;
        try {
          await ask(monitorAddresses);
        } catch (error) {
          problem.show(error.message);
        }
      },
    },
    h("summary", {}, "Feed, badge and status page"),
    h("p", { class: "hint" }, "Whoever has one of these addresses sees what it shows, without an account."),
    shown,
    problem.element,
    h(
      "div",
      { class: "row" },
      ...removal("New addresses", "Make new addresses? The old ones end.", () => ask(renewMonitorAddresses)),
    ),
  );
  return h("section", { class: "panel", hidden: true }, box);
}
