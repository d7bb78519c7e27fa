// Reading a stream as lines, at the pace at which they can be shown.

import { ask } from "./api.js";
import { visible } from "./format.js";
import { h } from "./dom.js";

/** Lines that are kept to look at; what is older goes. */
export const MAX_LINES = 5000;

/** Characters of a line that are shown: one without an end must not grow for ever. */
export const MAX_LINE = 4096;

/**
 * Read a stream into a list until it ends or is aborted.
 *
 * Nothing more is read before what came has been painted, so a fast stream is slowed by TCP and not
 * gathered here; the reader asks for `slow=drop`, and so holds nobody up.
 *
 * @param {string} path
 * @param {Lines} lines
 * @param {AbortSignal | undefined} signal
 * @param {() => void} begun called when the server has let us in
 * @param {() => Promise<void>} [gate] awaited before anything is shown
 */
export async function read(path, lines, signal, begun, gate = async () => {}) {
  const response = await ask(path, { signal });
  begun();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    await gate();
    signal?.throwIfAborted();
    lines.take(decoder.decode(value, { stream: true }), value.length);
    await painted();
  }
  lines.take(decoder.decode(), 0);
  lines.flush();
}

// A page that is not to be seen is not painted: then a tenth of a second will do.
function painted() {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 100);
    requestAnimationFrame(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Lines in an element, the newest last, which stays in sight unless the user has scrolled up. */
export class Lines {
  /**
   * @param {HTMLElement} element that scrolls
   * @param {(line: string) => HTMLElement} [draw]
   * @param {number} [longest] characters of a line that are drawn
   */
  constructor(element, draw = drawn, longest = MAX_LINE) {
    this.element = element;
    this.draw = draw;
    this.longest = longest;
    this.rest = "";
    this.cut = false;
    this.bytes = 0;
    this.count = 0;
  }

  take(text, bytes) {
    this.bytes += bytes;
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    if (this.cut && lines.length > 0) {
      lines.shift(); // the end of a line whose beginning was shown
      this.cut = false;
    }
    if (this.rest.length > this.longest) {
      if (!this.cut) lines.push(this.rest);
      this.cut = true;
      this.rest = "";
    }
    this.add(lines);
  }

  /** Show what had no line end. */
  flush() {
    if (this.rest && !this.cut) this.add([this.rest]);
    this.rest = "";
  }

  /** Forget a line that has not ended: what comes next is another stream. */
  tear() {
    this.rest = "";
    this.cut = false;
  }

  /** Add lines, each text or an element. */
  add(lines) {
    if (lines.length === 0) return;
    const follows = this.atEnd();
    this.count += lines.length;
    this.element.append(...lines.slice(-MAX_LINES).map((line) => this.shown(line)));
    while (this.element.childElementCount > MAX_LINES) this.element.firstElementChild.remove();
    if (follows) this.element.scrollTop = this.element.scrollHeight;
  }

  clear() {
    this.element.replaceChildren();
  }

  shown(line) {
    if (line instanceof Node) return line;
    const cut = line.length > this.longest;
    const text = cut ? `${line.slice(0, this.longest)}…` : line;
    return this.draw(text.replace(/\r$/, ""));
  }

  atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < 40;
  }
}

// An empty line has to be as high as the others.
function drawn(line) {
  return h("div", { class: "line", dir: "auto" }, visible(line) || "\u200b");
}
