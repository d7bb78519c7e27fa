// Hooks: addresses where other services tell what happened.

import { addHook, hooks, removeHook, rotateHook, testHook } from "../api.js";
import { command, field, h } from "../dom.js";
import { count, date, duration, relative, size } from "../format.js";
import { action, card, cards, choices, creation, empty, facts, heading, Notes, refreshed, removal, secrets, table, word } from "./list.js";
import { nameOf } from "./topics.js";

export const title = "Hooks";

const KINDS = {
  generic: { name: "anything that can post", where: "As the header “Authorization: Bearer SECRET”, or at the end of the URL: URL/SECRET." },
  distribution: { name: "registry of Docker, CNCF or GitLab", where: "In the registry's notifications: the URL as an endpoint's url, the secret among its headers as “Authorization: [Bearer SECRET]”." },
  github: { name: "GitHub packages", where: "At GitHub as Payload URL and Secret, with the content type application/json and the events Packages and Registry packages." },
  forgejo: { name: "Forgejo or Gitea packages", where: "At Forgejo or Gitea as target URL and secret, with the event Package." },
  harbor: { name: "Harbor", where: "At Harbor as endpoint URL and auth header, with the event Artifact pushed." },
  dockerhub: { name: "Docker Hub", where: "At Docker Hub as webhook URL; the secret is in it." },
  quay: { name: "Quay", where: "At Quay as webhook URL of a notification of pushes; the secret is in it." },
  gitlab: { name: "GitLab, all but its registry", where: "At GitLab as URL and secret token." },
  standard: { name: "Standard Webhooks", where: "Where it asks for the URL and the secret of a webhook." },
};

const RESULTS = {
  published: { kind: "good", text: "told" },
  held: { kind: "good", text: "waits for a reader" },
  unheard: { kind: "idle", text: "nobody read the topic" },
  repeat: { kind: "idle", text: "told before" },
  ignored: { kind: "idle", text: "no event that is published" },
  unreadable: { kind: "bad", text: "could not be read" },
  denied: { kind: "bad", text: "you may not write to the topic" },
  full: { kind: "bad", text: "too much waits already" },
  limited: { kind: "warn", text: "they came too fast" },
  refused: { kind: "bad", text: "the proof was wrong" },
};

export function show(place, page) {
  const notes = new Notes();
  const list = refreshed(hooks, (all, reload) =>
    all.length
      ? cards("Hooks", all.map((one) => hookCard(one, page, notes.of(one.id), reload)))
      : none(page),
  );
  const kind = choices(Object.entries(KINDS).map(([value, { name }]) => [value, name]));
  const topic = word("deploys", { required: true });
  const hold = choices([
    ["", "not at all: who reads now gets it"],
    ["1m", "for a minute"],
    ["10m", "for 10 minutes"],
    ["1h", "for an hour"],
    ["1d", "for a day"],
  ]);
  const name = word("shop on web1", { maxlength: "64", autocapitalize: null });
  place.append(
    heading(title, "A hook is an address where another service posts what happened. Whoever reads the topic hears of it at once."),
    list.element,
    creation(
      "New hook",
      [
        field("Who will post", kind),
        field("Topic", topic, "For images a space will do, such as alice/: then each has a topic of its own there"),
        field("An event waits for a reader", hold),
        field("What it is for", name),
      ],
      "Make a hook",
      async () => {
        const made = await addHook({
          topic: topic.value.trim(),
          kind: kind.value,
          hold: hold.value || null,
          name: name.value || null,
        });
        list.reload();
        return secretBox(made, kind.value);
      },
    ),
  );
  return list.stop;
}

function secretBox({ url, secret }, kind) {
  const values = [["URL", url]];
  if (secret) values.push(["Secret", secret]);
  return secrets(values, h("p", {}, "Where to give it: ", KINDS[kind].where));
}

function none(page) {
  return empty(
    "No hooks",
    h("p", {}, "A registry tells of images that were pushed, a shop of what was sold. Make a hook for it below, or over SSH:"),
    command(page.ssh("hooks add deploys --kind generic"), "An address for whatever can post"),
    h("p", {}, "Then wait for what comes:"),
    command(`${page.ssh("sub deploys")} && ./deploy`),
  );
}

function hookCard(one, page, note, reload) {
  const label = one.name || one.id;
  const { deliveries } = one;
  const last = deliveries[0];
  return card(
    one.topic.endsWith("/") ? h("code", { class: "name" }, one.topic) : nameOf(one.topic, page.user),
    last ? { text: last.result, kind: RESULTS[last.result].kind } : { text: "nothing yet", kind: "idle" },
    [
      action(`${one.id} test`, "Test", label, note, async () => {
        const { message } = await testHook(one.id);
        await reload();
        return message;
      }),
      ...removal(
        "New secret",
        `Give the hook “${label}” another secret? The old one counts no more.`,
        async () => {
          const made = await rotateHook(one.id);
          note.replaceChildren(secretBox(made, one.kind));
        },
        { "data-key": `${one.id} rotate`, "aria-label": `New secret: ${label}` },
      ),
      ...removal(
        "Remove",
        `Remove the hook “${label}”? What is delivered to it from then on is refused.`,
        async () => {
          await removeHook(one.id);
          await reload();
        },
        { "data-key": `${one.id} remove`, "aria-label": `Remove: ${label}` },
      ),
    ],
    facts({
      For: one.name,
      From: KINDS[one.kind]?.name ?? one.kind,
      Waits: one.hold > 0 && `${duration(one.hold)} for a reader`,
      "Last used": one.used ? h("time", { title: date(one.used) }, relative(one.used)) : "never",
      ID: h("code", {}, one.id),
    }),
    note,
    deliveries.length > 0 &&
      h(
        "details",
        { "data-key": `${one.id} deliveries` },
        h("summary", {}, deliveries.length > 1 ? `The last ${deliveries.length} deliveries` : "The last delivery"),
        table(
          ["When", "Result", "Size", "What came of it"],
          deliveries.map((each) => [
            h("time", { title: date(each.time) }, relative(each.time)),
            h("span", { class: `pill pill-${RESULTS[each.result].kind}` }, each.result),
            size(each.size),
            outcome(each),
          ]),
        ),
      ),
  );
}

function outcome({ result, times, events, readers, detail }) {
  const parts = [readers ? `${count(events, "event")} to ${count(readers, "reader")}` : detail || RESULTS[result].text];
  if (times > 1) parts.push(`${times} times`);
  return h("span", { class: "wrap" }, parts.join(" · "));
}
