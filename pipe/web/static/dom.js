// Making elements. Text is only ever a text node: nothing that came from elsewhere becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element. Attributes that are functions (`onclick`) become listeners, booleans are set or
 * left out, and children that are null or false are left out.
 *
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string | number | null | undefined | false)} children
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  return filled(element, attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put new children in place of the old ones. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.filter((child) => child !== null && child !== undefined && child !== false),
  );
}

/** Set an element's text, and touch nothing if it says that already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let identifiers = 0;

/** An id that no other element has. */
export function identifier() {
  identifiers += 1;
  return `id-${identifiers}`;
}

/** A labelled control, with a hint below it if there is one. */
export function field(label, control, hint = "") {
  control.id ||= identifier();
  const note = hint && h("p", { class: "hint", id: identifier() }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}

/** A check box with its label. */
export function check(label, attributes = {}) {
  const control = h("input", { type: "checkbox", ...attributes });
  return { control, element: h("label", { class: "check" }, control, h("span", {}, label)) };
}

/** A place where errors are told, and read aloud as they come. */
export function alertBox() {
  const element = h("p", { class: "alert", role: "alert", hidden: true });
  return {
    element,
    show(text) {
      element.hidden = !text;
      say(element, text);
    },
  };
}

/** An icon of the sheet in index.html's stead: drawn here, as `<use>` would be one more request. */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true" },
    ...ICONS[name].map((d) => svg("path", { d })),
  );
}

const ICONS = {
  topics: ["M3 6h14", "M3 10h14", "M3 14h9"],
  chat: ["M4 4h12a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1H9l-4 3v-3H4a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1z"],
  terminal: ["M3 5h14v10H3z", "M6 8l2 2-2 2", "M10.5 12.5H14"],
  tokens: ["M8 12a3 3 0 1 1 0-6 3 3 0 0 1 0 6z", "M11 9h6v3", "M14.5 9v2"],
  links: ["M8.5 11.5l3-3", "M9 6l1.5-1.5a3.2 3.2 0 0 1 4.5 4.5L13.5 10.5", "M11 14l-1.5 1.5a3.2 3.2 0 0 1-4.5-4.5L6.5 9.5"],
  grants: ["M7.5 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z", "M3 16c.3-2.8 2-4.3 4.5-4.3S11.7 13.2 12 16", "M12.5 5a2.3 2.3 0 0 1 0 4.5", "M14 12c1.7.5 2.8 1.8 3 4"],
  keys: ["M10 3l6 2.5v4c0 3.8-2.5 6.3-6 7.5-3.5-1.2-6-3.7-6-7.5v-4z", "M7.5 10l2 2 3.5-4"],
  logs: ["M4 3h8l4 4v10H4z", "M12 3v4h4", "M7 10.5h6", "M7 13.5h4"],
  monitors: ["M2.5 10.5h3.5l2-5 4 9 2-4h3.5"],
  hooks: ["M10 3v8.5", "M6.5 8l3.5 3.5L13.5 8", "M3.5 12.5V16h13v-3.5"],
  webhooks: ["M10 11.5V3", "M6.5 6.5L10 3l3.5 3.5", "M3.5 12.5V16h13v-3.5"],
  menu: ["M3 6h14", "M3 10h14", "M3 14h14"],
  copy: ["M7 7h9v9H7z", "M4 13V4h9"],
  done: ["M4 10.5l4 4 8-9"],
  down: ["M10 4v9", "M6 9.5l4 4 4-4", "M4 16.5h12"],
  up: ["M10 14V5", "M6 8.5l4-4 4 4", "M4 16.5h12"],
  back: ["M12 4l-6 6 6 6"],
};

/**
 * A button that copies text, and says that it has.
 *
 * @param {() => string} text
 */
export function copyButton(text, label = "Copy") {
  const status = h("span", { class: "visually-hidden", role: "status" });
  const face = h("span", { class: "copy-face" }, icon("copy"));
  const button = h(
    "button",
    {
      type: "button",
      class: "copy",
      "aria-label": label,
      title: label,
      onclick: async () => {
        await copyText(text());
        fill(face, icon("done"));
        say(status, "copied");
        setTimeout(() => {
          fill(face, icon("copy"));
          say(status, "");
        }, 1500);
      },
    },
    face,
  );
  return h("span", { class: "copy-place" }, button, status);
}

// The clipboard's own API is there on secure addresses only, and a server on the local network is
// none.
async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const holder = h("textarea", { class: "visually-hidden" }, text);
  document.body.append(holder);
  holder.select();
  document.execCommand("copy");
  holder.remove();
}

/** A line for a shell, to be copied. */
export function command(text, label = "") {
  return h(
    "div",
    { class: "command" },
    label && h("p", { class: "command-label" }, label),
    h(
      "div",
      { class: "command-line" },
      h("code", {}, text),
      copyButton(() => text, label ? `Copy: ${label}` : "Copy the command"),
    ),
  );
}
