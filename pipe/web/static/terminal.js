// A terminal on a topic: keys go out as bytes, bytes come in and are drawn by xterm.js.

import { socketAddress } from "./api.js";
import { say } from "./dom.js";
import { FitAddon } from "./vendor/addon-fit.mjs";
import { Terminal } from "./vendor/xterm.mjs";

const NORMAL = 1000;

/** Bytes that may wait to be drawn. */
const MAX_WAITING = 1 << 20;

const DARK = { background: "#131412", foreground: "#ecebe7", cursor: "#5fd0bf", selectionBackground: "#35514c", blue: "#7ba7ee", brightBlue: "#a3c3f7", red: "#f07f76" };
const LIGHT = { background: "#ffffff", foreground: "#1d1c1a", cursor: "#0b6e63", selectionBackground: "#bfe0da", brightWhite: "#55524c", white: "#6b6862", yellow: "#8a5300", brightYellow: "#8a5300" };

const topic = decodeURIComponent(location.hash.slice(1));
const place = document.getElementById("terminal");
const status = document.getElementById("status");
const again = document.getElementById("again");
const dark = matchMedia("(prefers-color-scheme: dark)");

const terminal = new Terminal({
  cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
  fontFamily: getComputedStyle(document.body).getPropertyValue("--mono"),
  fontSize: 14,
  screenReaderMode: true,
  theme: dark.matches ? DARK : LIGHT,
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.open(place);
fit.fit();
new ResizeObserver(() => fit.fit()).observe(place);
dark.addEventListener("change", () => {
  terminal.options.theme = dark.matches ? DARK : LIGHT;
});

// Tab is a key of the terminal, so there is another way out of it.
terminal.attachCustomKeyEventHandler((event) => {
  if (event.ctrlKey && event.shiftKey && event.code === "KeyX") {
    event.preventDefault();
    document.querySelector(".brand").focus();
    return false;
  }
  return true;
});

say(document.getElementById("topic"), topic);
document.title = `${topic} · terminal · pipe`;

let socket = null;
let waiting = 0;
const encoder = new TextEncoder();

terminal.onData((text) => send(encoder.encode(text)));
terminal.onBinary((text) => send(Uint8Array.from(text, (one) => one.charCodeAt(0))));
again.addEventListener("click", join);

function send(bytes) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(bytes);
}

function join() {
  again.hidden = true;
  say(status, "joining …");
  const own = new WebSocket(socketAddress(topic, { mode: "pipe", slow: "drop" }));
  own.binaryType = "arraybuffer";
  socket = own;
  own.onopen = () => {
    say(status, "");
    terminal.focus();
  };
  own.onmessage = ({ data }) => draw(new Uint8Array(data));
  own.onclose = (event) => {
    say(status, event.reason || (event.code === NORMAL ? "closed" : "you may not join, or the connection was lost"));
    again.hidden = false;
  };
}

// A WebSocket cannot be left unread, so what is too much to draw is dropped, and said to be.
function draw(bytes) {
  if (waiting > MAX_WAITING) {
    say(status, "too fast to draw: some is left out");
    return;
  }
  waiting += bytes.length;
  terminal.write(bytes, () => {
    waiting -= bytes.length;
  });
}

if (topic) join();
else say(status, "no topic: open one from the page");
