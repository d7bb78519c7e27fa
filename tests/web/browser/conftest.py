"""A Chromium without a window, and a stand-in for the server.

Tests share the browser, as to start one takes a second, and so they share its event loop: they are
marked ``asyncio(loop_scope="package")``, and their fixtures too.  Each has contexts of its own.
"""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest_asyncio
from aiohttp import web
from playwright.async_api import async_playwright, expect

from tests.web.served import Served, serving

from .standin import HOST, StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

CHROMIUM: Final = shutil.which("chromium") or "/usr/bin/chromium"

FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""It has to run as root in a container, and to talk to nobody but us."""

REBOUND: Final = "rebound.example"
"""A name of somebody else's that has come to mean the user's own machine."""

DEADLINE: Final = 60_000
"""Milliseconds after which something that is waited for has failed, on a machine that is busy."""

expect.set_options(timeout=DEADLINE)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def chromium() -> AsyncIterator[Browser]:
    """Chromium, to which `REBOUND` means this machine."""
    rule = f"--host-resolver-rules=MAP {REBOUND} {HOST}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, rule])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="package")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """Chromium, that knows nothing of other tests."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="package")
async def served() -> AsyncIterator[Served]:
    """A server on which nobody is."""
    async with serving() as served:
        yield served


@pytest_asyncio.fixture(loop_scope="package")
async def standin() -> AsyncIterator[StandIn]:
    """A stand-in for the server, that serves at its ``url``."""
    standin = StandIn()
    standin.reads.set()
    with socket.create_server((HOST, 0)) as listener:  # the page has to know its address
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        runner = web.AppRunner(
            standin.application(url), handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.SockSite(runner, listener).start()
        yield standin
        await runner.cleanup()


class Watch:
    """What a page complains of, and whom it talks to."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        self.origins: set[str] = set()
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.origins.add(_origin(request.url)))

    def _heard(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@pytest_asyncio.fixture(loop_scope="package")
async def page(browser: Browser) -> Page:
    """An empty page in a browser that nobody is logged in with."""
    page = await browser.new_page()
    page.set_default_timeout(DEADLINE)
    return page
