// The page: who is logged in, the frame around the views, and which view is shown.

import { whoami } from "./api.js";
import { fill, h, icon, say } from "./dom.js";
import { Live } from "./live.js";
import * as chat from "./views/chat.js";
import * as grants from "./views/grants.js";
import * as hooks from "./views/hooks.js";
import * as keys from "./views/keys.js";
import * as links from "./views/links.js";
import * as login from "./views/login.js";
import * as logs from "./views/logs.js";
import * as monitors from "./views/monitors.js";
import * as terminal from "./views/terminal.js";
import * as tokens from "./views/tokens.js";
import * as topic from "./views/topic.js";
import * as topics from "./views/topics.js";
import * as webhooks from "./views/webhooks.js";

/**
 * A view: `show(place, page, argument)` fills a place, and returns what is to be called when it
 * goes. `argument` is what stands behind the view's name in the address: `#/topic/alice/build`.
 *
 * One more view is one more module, and one more line here.
 */
const VIEWS = {
  ...{ topics, topic, chat, terminal },
  ...{ logs, monitors, hooks, webhooks },
  ...{ tokens, links, grants, keys },
};

const NAVIGATION = [
  ["Streams", ["topics", "chat", "terminal"]],
  ["Events", ["logs", "monitors", "hooks", "webhooks"]],
  ["Account", ["tokens", "links", "grants", "keys"]],
];

/** What the views need to know, and may ask for. */
class Page {
  constructor(me) {
    this.user = me.user;
    this.admin = Boolean(me.admin);
    this.live = new Live(() => location.reload());
  }

  /** A command line of the user's: `ssh -p 2222 alice@host pub build`. */
  ssh(rest) {
    return `${sshCommand(this.user)} ${rest}`;
  }

  /** The same for a command that wants a terminal. */
  sshInTerminal(rest) {
    return this.ssh(rest).replace("ssh", "ssh -t");
  }

  /** A command line for somebody whose `ssh` knows who they are. */
  sshOfOthers(rest) {
    return `${document.body.dataset.ssh} ${rest}`;
  }
}

/** How a user reaches the server: the page brings it without a name. */
export function sshCommand(user) {
  const words = document.body.dataset.ssh.split(" ");
  return [...words.slice(0, -1), `${user}@${words.at(-1)}`].join(" ");
}

async function start() {
  const place = document.getElementById("main");
  try {
    const me = await whoami();
    frame(place, new Page(me));
  } catch (error) {
    login.show(place, error);
  }
}

function frame(place, page) {
  const links = new Map();
  const toggle = h(
    "button",
    {
      type: "button",
      class: "menu",
      "aria-expanded": "false",
      "aria-controls": "navigation",
      onclick: () => open(toggle.getAttribute("aria-expanded") === "false"),
    },
    icon("menu"),
    h("span", { class: "visually-hidden" }, "Menu"),
  );
  const open = (wanted) => {
    toggle.setAttribute("aria-expanded", String(wanted));
    navigation.classList.toggle("open", wanted);
  };
  const navigation = h(
    "nav",
    { id: "navigation", "aria-label": "Views" },
    ...NAVIGATION.map(([heading, names]) =>
      h(
        "div",
        { class: "nav-group" },
        h("h2", {}, heading),
        ...names.map((name) => {
          const link = h("a", { href: `#/${name}` }, icon(name), VIEWS[name].title);
          links.set(name, link);
          return link;
        }),
      ),
    ),
    h(
      "div",
      { class: "nav-foot" },
      h("p", { class: "nav-user" }, page.user),
      h(
        "form",
        { method: "post", action: "/logout" },
        h("button", { type: "submit", class: "quiet" }, "Log out"),
      ),
    ),
  );
  document.getElementById("bar").append(toggle);
  place.before(navigation);
  document.body.classList.add("logged-in");
  const connection = document.getElementById("connection");
  page.live.listen(() => {
    const lost = page.live.state === "lost";
    connection.hidden = !lost;
    say(connection, lost ? "No answer from the server: trying again." : "");
  });

  let leave = () => {};
  const turn = (first) => {
    leave();
    const [name, argument] = address();
    const view = VIEWS[name] ?? topics;
    for (const [own, link] of links) {
      if (own === (view.under ?? name)) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    open(false);
    fill(place);
    document.title = argument ? `${argument} · pipe` : `${view.title} · pipe`;
    leave = view.show(place, page, argument) ?? (() => {});
    if (!first) {
      window.scrollTo(0, 0);
      place.querySelector("h1")?.focus();
    }
  };
  window.addEventListener("hashchange", () => turn(false));
  turn(true);
}

/** The view's name and its argument. */
function address() {
  const [, name = "topics", ...rest] = location.hash.split("/");
  return [name || "topics", rest.map(decoded).join("/")];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

start();
