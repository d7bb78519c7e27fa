// Webhooks: what topics get is sent to addresses on the web.

import { addWebhook, removeWebhook, resumeWebhook, testWebhook, webhooks } from "../api.js";
import { command, field, h } from "../dom.js";
import { date, relative } from "../format.js";
import { action, card, cards, choices, creation, empty, facts, heading, Notes, refreshed, removal, secrets, table, word } from "./list.js";
import { nameOf } from "./topics.js";

export const title = "Webhooks";

const STATES = { active: "good", failing: "warn", paused: "bad" };

export function show(place, page) {
  const notes = new Notes();
  const list = refreshed(webhooks, (all, reload) =>
    all.length
      ? cards("Webhooks", all.map((one) => webhookCard(one, page, notes.of(one.id), reload)))
      : none(page),
  );
  const topic = word("deploys", { required: true });
  const url = word("https://ci.example.org/hooks/pipe", { required: true, inputmode: "url" });
  const frame = choices([
    ["none", "each stream, when it has ended"],
    ["line", "each line"],
  ]);
  const name = word("build server", { maxlength: "64", autocapitalize: null });
  place.append(
    heading(title, "A webhook sends what a topic gets to an address on the web, signed, and tries again if that fails."),
    list.element,
    creation(
      "New webhook",
      [field("Topic", topic), field("Send to", url), field("One POST for", frame), field("What it is for", name)],
      "Make a webhook",
      async () => {
        const { secret } = await addWebhook({
          topic: topic.value.trim(),
          url: url.value.trim(),
          frame: frame.value,
          name: name.value || null,
        });
        list.reload();
        return secrets(
          [["Secret", secret]],
          h("p", {}, "The receiver verifies with it that a POST comes from here, as Standard Webhooks says."),
        );
      },
    ),
  );
  return list.stop;
}

function none(page) {
  return empty(
    "No webhooks",
    h("p", {}, "Have a chat, a build server or a function told of what a topic gets. Make one below, or over SSH:"),
    command(page.ssh("webhooks add deploys https://ci.example.org/hooks/pipe --frame line"), "A POST for each line"),
    h("p", {}, "Then write to the topic:"),
    command(`echo '{"version":"1.2"}' | ${page.ssh("pub deploys")}`),
  );
}

function webhookCard(one, page, note, reload) {
  const label = one.name || one.url;
  const told = async (asking) => {
    try {
      return (await asking).message;
    } finally {
      await reload();
    }
  };
  return card(
    nameOf(one.topic, page.user),
    { text: one.state, kind: STATES[one.state] ?? "idle" },
    [
      one.state === "paused" &&
        action(`${one.id} resume`, "Resume", label, note, () => told(resumeWebhook(one.id))),
      action(`${one.id} test`, "Test", label, note, () => told(testWebhook(one.id))),
      ...removal(
        "Remove",
        `Remove the webhook to ${one.url}? What waits for it is dropped.`,
        async () => {
          await removeWebhook(one.id);
          await reload();
        },
        { "data-key": `${one.id} remove`, "aria-label": `Remove: ${label}` },
      ),
    ].filter(Boolean),
    facts({
      For: one.name,
      To: h("code", { class: "wrap" }, one.url),
      "One POST for": one.frame === "line" ? "each line" : "each stream",
      "Last success": one.succeeded ? h("time", { title: date(one.succeeded) }, relative(one.succeeded)) : "never",
      "Fails since": one.failing_since && h("time", { title: date(one.failing_since) }, relative(one.failing_since)),
      Waiting: one.waiting > 0 && `${one.waiting}`,
      Dropped: one.dropped > 0 && `${one.dropped}`,
      ID: h("code", {}, one.id),
    }),
    one.problem && h("p", { class: one.state === "active" ? "hint" : "alert" }, "The last problem: ", one.problem),
    note,
    one.recent.length > 0 &&
      h(
        "details",
        { "data-key": `${one.id} tries` },
        h("summary", {}, one.recent.length > 1 ? `The last ${one.recent.length} tries` : "The last try"),
        table(
          ["When", "Result", "Took", "What came back"],
          one.recent.map((each) => [
            h("time", { title: date(each.time) }, relative(each.time)),
            h("span", { class: `pill pill-${each.result === "delivered" ? "good" : "bad"}` }, each.result),
            `${each.seconds.toFixed(2)} s`,
            h("span", { class: "wrap" }, each.text),
          ]),
        ),
      ),
  );
}
