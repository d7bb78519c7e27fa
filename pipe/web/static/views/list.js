// What the lists of tokens, links, grants, keys, hooks, webhooks and monitors have in common.

import { alertBox, command, fill, h } from "../dom.js";

/** How often a list is asked for again that changes by itself, while somebody looks. */
const REFRESH_MILLISECONDS = 30_000;

/**
 * A list that is fetched, with something said where it is empty.
 *
 * @param {() => Promise<object[]>} fetch
 * @param {(items: object[], reload: () => Promise<void>) => Node} draw
 */
export function fetched(fetch, draw) {
  const place = h("div", { "aria-live": "polite" }, h("p", { class: "muted" }, "Asking the server …"));
  const problem = alertBox();
  async function reload() {
    try {
      const items = await fetch();
      redraw(place, () => draw(items, reload));
      problem.show("");
    } catch (error) {
      problem.show(error.message);
      fill(place);
    }
  }
  reload();
  return { element: h("div", {}, problem.element, place), place, reload };
}

/**
 * The same for a list that changes by itself.
 *
 * @returns {{element: Node, reload: () => Promise<void>, stop: () => void}}
 */
export function refreshed(fetch, draw) {
  const list = fetched(fetch, draw);
  const timer = setInterval(async () => {
    const { place } = list;
    if (document.hidden || place.querySelector("dialog[open]") || isMarked(place)) return;
    place.setAttribute("aria-live", "off"); // it would be read out again and again
    await list.reload();
    place.setAttribute("aria-live", "polite");
  }, REFRESH_MILLISECONDS);
  return { ...list, stop: () => clearInterval(timer) };
}

/** Whether somebody has marked text in it, which drawing it again would undo. */
export function isMarked(place) {
  const selection = getSelection();
  return !selection.isCollapsed && place.contains(selection.anchorNode);
}

// What was open stays open, and the focus stays where it was: elements with a data-key are known
// again.
function redraw(place, draw) {
  const open = new Set([...place.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  const focused = place.contains(document.activeElement) && document.activeElement.dataset.key;
  fill(place, draw());
  for (const one of place.querySelectorAll("[data-key]")) {
    if (open.has(one.dataset.key)) one.open = true;
    if (one.dataset.key === focused) one.focus();
  }
}

/** What was told of each item of a list: it outlives a reload. */
export class Notes {
  constructor() {
    this.places = new Map();
  }

  /** The place for what is told of an item. */
  of(id) {
    if (!this.places.has(id)) {
      this.places.set(id, h("div", { class: "note", role: "status" }));
    }
    return this.places.get(id);
  }
}

/**
 * A button that acts at once, and tells what came of it.
 *
 * @param {string} key that tells it from all others
 * @param {string} verb on the button
 * @param {string} what it acts on
 * @param {HTMLElement} note
 * @param {() => Promise<string>} act
 */
export function action(key, verb, what, note, act) {
  const button = h(
    "button",
    {
      type: "button",
      "data-key": key,
      "aria-label": `${verb}: ${what}`,
      onclick: async () => {
        if (button.getAttribute("aria-busy")) return;
        button.setAttribute("aria-busy", "true");
        fill(note, h("p", { class: "muted" }, "Asking the server …"));
        try {
          fill(note, h("p", { class: "done" }, await act()));
        } catch (error) {
          fill(note, h("p", { class: "alert" }, error.message));
        }
        button.removeAttribute("aria-busy");
      },
    },
    verb,
  );
  return button;
}

/**
 * One item of a list that has more to tell than a row can hold.
 *
 * @param {Node} name
 * @param {{text: string, kind: string}} state
 * @param {Node[]} actions
 * @param {...Node} children
 */
export function card(name, state, actions, ...children) {
  return h(
    "li",
    { class: "card" },
    h(
      "div",
      { class: "card-head" },
      h("h2", {}, name, " ", h("span", { class: `pill pill-${state.kind}` }, state.text)),
      h("div", { class: "row card-acts" }, ...actions),
    ),
    ...children,
  );
}

/** Cards below each other. */
export function cards(label, items) {
  return h("ul", { class: "cards", "aria-label": label }, ...items);
}

/** What is known of an item: names and values; those without a value are left out. */
export function facts(values) {
  const known = Object.entries(values).filter(([, value]) => value);
  return h(
    "dl",
    { class: "facts" },
    ...known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** A place to type a name or an address. */
export function word(placeholder, attributes = {}) {
  return h("input", { type: "text", placeholder, autocapitalize: "none", autocomplete: "off", spellcheck: "false", ...attributes });
}

/** A choice of values, each with what it means; the first one is chosen. */
export function choices(values) {
  return h("select", {}, ...values.map(([value, text]) => h("option", { value }, text)));
}

/** Text that is shown once, each with a name. */
export function secrets(values, ...advice) {
  return h(
    "div",
    { class: "secret" },
    h("p", {}, h("strong", {}, "Copy it now: "), "this is the only time that it is shown."),
    ...values.map(([name, text]) => command(text, name)),
    ...advice,
  );
}

/** A view's title, and what it is for. */
export function heading(title, lead) {
  return h(
    "header",
    { class: "view-head" },
    h("div", {}, h("h1", { tabindex: "-1" }, title), h("p", { class: "lead" }, lead)),
  );
}

/**
 * A table that becomes a list of cards where there is no room for columns. The column without a
 * heading is for buttons.
 */
export function table(headings, rows) {
  const head = (text) =>
    text
      ? h("th", { scope: "col" }, text)
      : h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Actions"));
  const cell = (content, heading) =>
    heading
      ? h("td", { "data-label": heading }, h("div", {}, content))
      : h("td", { class: "act" }, ...[content].flat());
  return h(
    "div",
    { class: "sheet" },
    h(
      "table",
      { class: "stack" },
      h("thead", {}, h("tr", {}, ...headings.map(head))),
      h(
        "tbody",
        {},
        ...rows.map((cells) =>
          h("tr", {}, ...cells.map((content, index) => cell(content, headings[index]))),
        ),
      ),
    ),
  );
}

/** What is seen instead of an empty list. */
export function empty(heading, ...children) {
  return h("section", { class: "empty" }, h("h2", {}, heading), ...children);
}

/**
 * A button that asks once more before it acts.
 *
 * @param {string} verb on the button
 * @param {string} question
 * @param {() => Promise<void>} act
 * @param {Record<string, unknown>} [attributes] of the button
 */
export function removal(verb, question, act, attributes = {}) {
  const problem = alertBox();
  const dialog = h(
    "dialog",
    { "aria-label": question },
    h("p", {}, question),
    problem.element,
    h(
      "div",
      { class: "row row-end" },
      h("button", { type: "button", onclick: () => dialog.close() }, "Keep"),
      h(
        "button",
        {
          type: "button",
          class: "danger",
          onclick: async () => {
            try {
              await act();
              dialog.close();
            } catch (error) {
              problem.show(error.message);
            }
          },
        },
        verb,
      ),
    ),
  );
  const button = h("button", { type: "button", class: "quiet", onclick: () => dialog.showModal(), ...attributes }, verb);
  return [button, dialog];
}

/** A form in a panel, whose errors are told below it. */
export function creation(heading, fields, verb, act) {
  const problem = alertBox();
  const result = h("div", { "aria-live": "polite" });
  const form = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        problem.show("");
        try {
          const made = await act();
          fill(result, made);
        } catch (error) {
          problem.show(error.message);
        }
      },
    },
    h("div", { class: "fields" }, ...fields),
    h("button", { type: "submit", class: "primary" }, verb),
  );
  return h("section", { class: "panel" }, h("h2", {}, heading), form, problem.element, result);
}

/** A choice of how long something lasts. */
export function durations(chosen, ...choices) {
  const names = { "1m": "a minute", "10m": "10 minutes", "1h": "an hour", "12h": "12 hours", "1d": "a day", "7d": "a week", "30d": "30 days", "90d": "90 days", "365d": "a year", "": "until I revoke it" };
  return h(
    "select",
    {},
    ...choices.map((one) => h("option", { value: one, selected: one === chosen }, names[one])),
  );
}

/** Names and patterns, with commas between them, as a list. */
export function split(text) {
  return text
    .split(/[\s,]+/)
    .filter(Boolean);
}
