// What is shown to somebody who is not logged in.

import { command, fill, h } from "../dom.js";

export function show(place, error) {
  const { ssh } = document.body.dataset;
  const words = ssh.split(" ");
  const own = [...words.slice(0, -1), `YOU@${words.at(-1)}`].join(" ");
  fill(
    place,
    h(
      "section",
      { class: "welcome" },
      h("h1", { tabindex: "-1" }, "Pipes between machines, and this page"),
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
