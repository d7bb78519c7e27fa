"""The page's views, with something in each, and what all tests of it do there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import expect

from pipe.web.pages import STATIC, TERMINAL_FILES

from .standin import CODE, LINK, StandIn, delivery, hook, monitor, session, topic, webhook

if TYPE_CHECKING:
    from playwright.async_api import Page

VIEWS: Final = (
    *("#/topics", "#/topic/alice/build", "#/chat", "#/chat/public/tea", "#/terminal"),
    *("#/logs", "#/monitors", "#/hooks", "#/webhooks"),
    *("#/tokens", "#/links", "#/grants", "#/keys"),
)

EVERY_VIEW: Final = (*VIEWS, f"login/{CODE}", f"l/{LINK}", f"l/{LINK}w")
"""Those too that are for somebody who is not logged in."""

needs_xterm = pytest.mark.skipif(
    not all((STATIC / name).exists() for name in TERMINAL_FILES),
    reason="xterm.js is not there: 'make web' fetches it",
)


def fill(standin: StandIn) -> None:
    """Give every list something to show."""
    key = "SHA256:" + "x" * 43
    common: dict[str, object] = {
        "created": 1.8e9,
        "until": 2.0e9,
        "used": None,
        "used_from": None,
        "admin": False,
    }
    standin.topics = [topic("alice/build", publishers=1, subscribers=2, in_bytes=2048)]
    standin.tokens = [
        {**common, "id": "aaa", "kind": "token", "name": "ci", "read": ["build"], "write": []}
        | {"uses_left": None, "key": key, "current": False},
        {**common, "id": "bbb", "kind": "login", "name": "", "read": None, "write": None}
        | {"uses_left": None, "key": key, "current": True},
        {**common, "id": "ccc", "kind": "link", "name": "", "read": [], "write": ["inbox"]}
        | {"uses_left": 3, "key": key, "current": False},
    ]
    standin.grants = [
        {"topic": "alice/build", "grantee": "bob", "read": True, "write": False, "until": None}
        | {"granted_by": "alice", "created": 1.8e9, "given": True},
        {"topic": "bob/log", "grantee": "alice", "read": True, "write": True, "until": 2.0e9}
        | {"granted_by": "bob", "created": 1.8e9, "given": False},
    ]
    standin.keys = [
        {"fingerprint": key, "type": "ssh-ed25519", "created": 1.8e9, "last_used": None}
        | {"comment": "alice@laptop", "current": True},
    ]
    standin.logs = [b'{"level":"WARN","msg":"%b","user":"alice"}\n' % (b"long" * 100)]
    standin.hooks = [
        hook("aaa", "alice/", "distribution", deliveries=[delivery(1.8e9, "published", events=1)])
    ]
    tried = {"time": 1.8e9, "message": "m", "result": "timeout", "text": "no answer", "seconds": 10}
    standin.webhooks = [
        webhook("aaa", "bob/log", f"https://example.org/{'x' * 99}", state="paused", recent=[tried])
    ]
    standin.monitors = [monitor(f"alice/{'deep/' * 9}x", "down", "nothing has come for a day")]
    standin.sessions = [session("bob", "subscribe", out_bytes=12, clogged=True)]


async def open_view(page: Page, standin: StandIn, view: str) -> None:
    """Open a view afresh, and wait until it has what it asked for."""
    await page.goto("about:blank")
    await page.goto(f"{standin.url}/{view}", wait_until="load")
    await expect(page.get_by_text("Asking the server …")).to_have_count(0)
    await expect(page.locator("h1")).to_be_visible()


DROP: Final = """async ([zone, names, size]) => {
    const data = new DataTransfer();
    for (const name of names) data.items.add(new File([new Uint8Array(size).fill(7)], name));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        const event = {dataTransfer: data, bubbles: true, cancelable: true};
        zone.dispatchEvent(new DragEvent(kind, event));
    }
}"""


async def drop(page: Page, names: list[str], size: int) -> None:
    """Let go of files above the page."""
    zone = await page.locator(".drop").element_handle()
    await page.evaluate(DROP, [zone, names, size])
