// Sending a file or text into a stream. XMLHttpRequest tells of progress, and has the browser read
// the file from the disk as the stream takes it; a fetch with a stream needs HTTP/2.

import { alertBox, fill, h, icon, identifier, say } from "./dom.js";
import { sentence } from "./api.js";
import { count, size } from "./format.js";

/**
 * @typedef {object} Sending
 * @property {Promise<{bytes: number, subscribers: number}>} receipt
 * @property {() => void} abort
 */

/**
 * @param {string} address
 * @param {Blob} body
 * @param {(sent: number) => void} progress
 * @returns {Sending}
 */
export function upload(address, body, progress) {
  const request = new XMLHttpRequest();
  const receipt = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText));
      else reject(new Error(sentence(request.responseText, request.status)));
    };
    request.onerror = () => reject(new Error("the stream broke: the server closed the connection"));
    request.onabort = () => reject(new Error("cancelled: what was sent breaks off, and its readers are told"));
  });
  request.open("PUT", address);
  request.setRequestHeader("accept", "application/json");
  request.setRequestHeader("content-type", body.type || "application/octet-stream");
  if (body instanceof File) {
    const name = encodeURIComponent(body.name).replace(/['()*]/g, percentEncoded);
    request.setRequestHeader("content-disposition", `attachment; filename*=UTF-8''${name}`);
  }
  request.send(body);
  return { receipt, abort: () => request.abort() };
}

// A file that misses its place would be opened by the browser, in place of the page.
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => event.preventDefault());
}

function percentEncoded(character) {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}

/**
 * The place where a file is dropped or chosen, and text is typed.
 *
 * @param {(options: {block: boolean}) => string} address where it goes
 * @param {{mayChoose: boolean}} [options] whether the user chooses to wait for a reader
 */
export function sender(address, { mayChoose = true } = {}) {
  const problem = alertBox();
  const status = h("div", { class: "sending" });
  const waits = h("input", { type: "checkbox", checked: true });
  const chooser = h("input", {
    type: "file",
    id: identifier(),
    class: "visually-hidden",
    onchange: () => {
      if (chooser.files.length) send(chooser.files[0]);
      chooser.value = "";
    },
  });
  const zone = h(
    "label",
    { class: "drop", for: chooser.id },
    icon("up"),
    h("span", {}, h("strong", {}, "Choose a file"), " or drop it here"),
  );
  const text = h("textarea", {
    rows: "2",
    "aria-label": "Text to send",
    placeholder: "or type some text …",
  });
  const form = h(
    "form",
    {
      class: "send-text",
      onsubmit: (event) => {
        event.preventDefault();
        if (text.value) send(new Blob([`${text.value}\n`], { type: "text/plain" }));
      },
    },
    text,
    h("button", { type: "submit" }, "Send text"),
  );
  const element = h(
    "div",
    { class: "sender" },
    chooser,
    zone,
    form,
    mayChoose &&
      h("label", { class: "check" }, waits, h("span", {}, "Wait for a reader before sending")),
    status,
    problem.element,
  );

  let busy = false;
  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("drop-over");
    });
  }
  zone.addEventListener("dragleave", () => zone.classList.remove("drop-over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("drop-over");
    const { files } = event.dataTransfer;
    if (files.length > 1) {
      problem.show("a stream carries one file: pack several with zip or tar first");
    } else if (files.length === 1) send(files[0]);
  });

  async function send(body) {
    if (busy) {
      problem.show("one is being sent: wait for its end, or cancel it");
      return;
    }
    busy = true;
    problem.show("");
    const name = body.name ?? "text";
    const bar = h("progress", { max: "1", value: "0", "aria-label": `Sending ${name}` });
    const figures = h("span", { class: "muted", role: "status" }, "waiting for a reader …");
    const sending = upload(address({ block: waits.checked }), body, (sent) => {
      bar.value = body.size ? Math.min(1, sent / body.size) : 1;
      say(figures, `${size(Math.min(sent, body.size))} of ${size(body.size)}`);
    });
    const cancel = h("button", { type: "button", class: "quiet", onclick: sending.abort }, "Cancel");
    fill(status, h("p", {}, h("strong", {}, name)), bar, h("div", { class: "row" }, figures, cancel));
    try {
      const receipt = await sending.receipt;
      if (!(body instanceof File)) text.value = "";
      fill(
        status,
        h(
          "p",
          { class: "done", role: "status" },
          icon("done"),
          `sent ${size(receipt.bytes)} to ${count(receipt.subscribers, "reader")}`,
        ),
      );
    } catch (error) {
      fill(status);
      problem.show(error.message);
    }
    busy = false;
  }

  return element;
}
