// What the lists of tokens, links, grants and keys have in common.

import { alertBox, fill, h } from "../dom.js";

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
      fill(place, draw(await fetch(), reload));
      problem.show("");
    } catch (error) {
      problem.show(error.message);
      fill(place);
    }
  }
  reload();
  return { element: h("div", {}, problem.element, place), reload };
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
 */
export function removal(verb, question, act) {
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
  const button = h("button", { type: "button", class: "quiet", onclick: () => dialog.showModal() }, verb);
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
  const names = { "1h": "an hour", "12h": "12 hours", "1d": "a day", "7d": "a week", "30d": "30 days", "90d": "90 days", "365d": "a year", "": "until I revoke it" };
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
