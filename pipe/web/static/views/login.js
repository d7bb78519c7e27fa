// What is shown to somebody who is not logged in.

import { command, fill, h, svg } from "../dom.js";

export function show(place, error) {
  const { ssh } = document.body.dataset;
  const words = ssh.split(" ");
  const own = [...words.slice(0, -1), `YOU@${words.at(-1)}`].join(" ");
  fill(
    place,
    h(
      "section",
      { class: "welcome" },
      drawing(),
      h("h1", { tabindex: "-1" }, "A pipe between your machines"),
      error.status === 401
        ? h(
            "p",
            { class: "lead" },
            "Your SSH key is your account here too. Run this where the key is, and open the address that it prints:",
          )
        : h("p", { class: "alert", role: "alert" }, error.message),
      command(`${own} login`, "Print an address that logs this browser in, once"),
      command(`xdg-open "$(${own} login)"`, "The same in one go, on this machine"),
      h(
        "p",
        { class: "muted" },
        "No account yet? The first login with a key makes one, where the server allows it. Or ask its operator.",
      ),
    ),
  );
}

// One writer, three readers.
function drawing() {
  const readers = [20, 60, 100];
  return svg(
    "svg",
    { class: "drawing", viewBox: "22 0 380 120", "aria-hidden": "true" },
    svg("path", { d: "M44 60H200" }),
    ...readers.map((y) => svg("path", { d: `M200 60C260 60 250 ${y} 320 ${y}` })),
    svg("circle", { cx: 36, cy: 60, r: 8 }),
    svg("circle", { cx: 200, cy: 60, r: 8, class: "drawing-hub" }),
    ...readers.map((y) => svg("circle", { cx: 328, cy: y, r: 8 })),
    svg("text", { x: 22, y: 92 }, "pub"),
    svg("text", { x: 181, y: 92 }, "build"),
    ...readers.map((y) => svg("text", { x: 348, y: y + 4 }, "sub")),
  );
}
