"""The page and the server together, in Chromium; and what pages of other origins can do to them."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import expect

from tests.web.served import HOST, Served, request_head

from .conftest import DEADLINE, Watch
from .views import drop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(loop_scope="package")
async def page(served: Served, browser: Browser) -> AsyncIterator[Page]:
    """A page on which alice has logged in."""
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(DEADLINE)
    await page.goto(f"{served.url}/login/alice")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    yield page
    await context.close()


async def test_the_page_works_and_breaks_no_rule(served: Served, page: Page) -> None:
    """Every view gets what it asks for, with the cookie alone; a member is seen as it comes."""
    await served.people.add("alice")
    watch = Watch(page)
    reader = await served.request("GET", "/topic/build?persist")
    row = page.locator(".topic")
    await expect(row).to_contain_text("build1 reader")
    await row.click()
    await expect(page.get_by_role("table")).to_contain_text("alice (you)reads127.0.0.1")
    for name in ("Keys", "Grants", "Chat", "Terminal", "Topics"):
        await page.get_by_role("link", name=name, exact=True).click()
        await expect(page.get_by_text("Asking the server")).to_have_count(0)
        await expect(page.get_by_role("alert")).to_have_count(0)
    assert watch.complaints == []
    reader.close()


async def test_a_login_is_good_for_one_browser(
    served: Served, page: Page, browser: Browser
) -> None:
    """An address that was used lets nobody in, and logging out ends it on the server."""
    other = await browser.new_page()
    await other.goto(f"{served.url}/login/alice")
    await expect(other.get_by_text("this address was used already")).to_be_visible()
    await other.close()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_text("Your SSH key is your account")).to_be_visible()
    assert served.tokens.cookies == {}


async def test_a_file_goes_from_the_page_to_a_reader(served: Served, page: Page) -> None:
    """It waits for the reader, under its name, and every byte arrives."""
    await page.goto(f"{served.url}/#/topic/alice/gift")
    await drop(page, ["gift.bin"], 3 << 20)
    await served.wait_members(1)
    await expect(page.get_by_text("waits for a reader").first).to_be_visible()
    got = await served.ask("GET", "/topic/gift")
    assert got.whole
    assert got.body == b"\x07" * (3 << 20)
    assert "gift.bin" in got.headers["content-disposition"]
    await expect(page.get_by_text("sent 3.0 MiB to 1 reader")).to_be_visible()


async def test_sending_that_is_cancelled_breaks_the_stream(served: Served, page: Page) -> None:
    """Its reader does not take the half for the whole."""
    reader = await served.request("GET", "/topic/gift")
    await page.goto(f"{served.url}/#/topic/alice/gift")
    await drop(page, ["gift.bin"], 64 << 20)
    await served.wait_members(2)
    await page.get_by_role("button", name="Cancel").click()
    got = await reader.response()
    assert got.status == 200
    assert not got.whole
    assert len(got.body) < 64 << 20


async def test_a_stream_is_received_as_a_file(served: Served, page: Page, tmp_path: Path) -> None:
    """The browser waits for the writer, and keeps the name that it gave."""
    await page.goto(f"{served.url}/#/topic/alice/report")
    data = bytes(range(256)) * 8192
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="Download").click()
        await served.wait_members(1)
        headers = {"Content-Disposition": 'attachment; filename="r.pdf"'}
        await served.ask("PUT", "/topic/report", data, headers=headers)
    download = await waiting.value
    assert await download.failure() is None
    await download.save_as(tmp_path / "file")
    digest = hashlib.sha256((tmp_path / "file").read_bytes()).digest()
    assert digest == hashlib.sha256(data).digest()


async def test_a_download_whose_writer_vanishes_has_failed(served: Served, page: Page) -> None:
    """Half a file must not lie among the downloads as if it were one."""
    await page.goto(f"{served.url}/#/topic/alice/report")
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="Download").click()
        await served.wait_members(1)
        writer = await served.connect()
        await writer.send(request_head("PUT", "/topic/report", 1 << 20) + b"half" * 1000)
    writer.reset()
    assert await (await waiting.value).failure() is not None


async def test_a_tail_follows_writers_as_they_come(served: Served, page: Page) -> None:
    """It stays when one ends, and leaves when it is told to."""
    await page.goto(f"{served.url}/#/topic/alice/log")
    await page.get_by_role("button", name="Follow").click()
    await served.wait_members(1)
    for line in (b"one\n", b"two\n"):
        await served.ask("PUT", "/topic/log", line)
    await expect(page.locator(".line")).to_have_text(["one", "two"])
    await page.get_by_role("button", name="Stop").click()
    await served.wait_members(0)


async def test_two_pages_talk(served: Served, page: Page, browser: Browser) -> None:
    """In the room of ``pipe TOPIC``, and leave it by going elsewhere."""
    other = await browser.new_page()
    await other.goto(f"{served.url}/login/bob")
    await other.get_by_role("button", name="Log in").click()
    for one in (page, other):
        await one.goto(f"{served.url}/#/chat/public/tea")
        await expect(one.get_by_label("Say something")).to_be_enabled()
    await served.wait_members(2)
    await page.get_by_label("Say something").fill("tea?")
    await page.keyboard.press("Enter")
    await expect(other.locator(".line")).to_have_text("alice: tea?")
    await other.get_by_role("link", name="Keys").click()
    await served.wait_members(1)
    await other.close()


async def test_who_may_not_is_told_so(served: Served, page: Page) -> None:
    """In the words of SSH, by every way in."""
    await page.goto(f"{served.url}/#/topic/bob/private")
    await expect(page.get_by_text("its owner does not share it with you").first).to_be_visible()
    await page.get_by_role("button", name="Follow").click()
    await expect(page.get_by_role("alert").filter(has_text="access denied")).to_be_visible()
    await page.get_by_label("Text to send").fill("x")
    await page.get_by_role("button", name="Send text").click()
    await expect(page.get_by_role("alert").filter(has_text="access denied")).to_have_count(2)
    await page.goto(f"{served.url}/#/chat/bob/private")
    await expect(page.get_by_role("button", name="Join again")).to_be_visible()


ATTACKS: Final = """async (target) => {
    const found = {};
    const read = async (path, options) => {
        try {
            const answer = await fetch(target + path, options);
            return answer.type === "opaque" ? "opaque" : answer.status;
        } catch {
            return "refused";
        }
    };
    found.get = await read("/api/whoami", {credentials: "include"});
    found.opaque = await read("/topic/secret?timeout=1s", {
        credentials: "include", mode: "no-cors",
    });
    found.without = await read("/api/whoami", {credentials: "omit"});
    found.post = await read("/topic/secret?block=false", {
        method: "POST", credentials: "include", mode: "no-cors", body: "evil",
    });
    found.put = await read("/topic/secret?block=false", {
        method: "PUT", credentials: "include", body: "evil",
    });
    found.grant = await read("/api/grants", {
        method: "POST", credentials: "include", mode: "no-cors",
        body: JSON.stringify({topic: "secret", who: ["mallory"]}),
    });
    found.socket = await new Promise((resolve) => {
        const socket = new WebSocket(target.replace("http", "ws") + "/pipe/secret");
        socket.onopen = () => resolve("open");
        socket.onerror = () => resolve("refused");
    });
    found.events = await new Promise((resolve) => {
        const source = new EventSource(target + "/api/topics?follow=true", {withCredentials: true});
        source.onmessage = () => { source.close(); resolve("open"); };
        source.onerror = () => { source.close(); resolve("refused"); };
    });
    found.image = await new Promise((resolve) => {
        const image = new Image();
        image.onload = image.onerror = () => resolve("tried");
        image.src = target + "/topic/secret?block=false&timeout=1s";
    });
    found.frame = await new Promise((resolve) => {
        const frame = document.createElement("iframe");
        frame.onload = () => {
            try { resolve(frame.contentDocument ? "seen" : "hidden"); } catch { resolve("hidden"); }
        };
        frame.src = target + "/";
        document.body.append(frame);
    });
    return found;
}"""


@pytest_asyncio.fixture(loop_scope="package")
async def foreign() -> AsyncIterator[str]:
    """The origin of somebody else's page, on the same machine: by cookies' rules the same site."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>evil</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", answer)
    with socket.create_server((HOST, 0)) as listener:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        yield f"http://{HOST}:{listener.getsockname()[1]}"
        await runner.cleanup()


async def test_a_page_of_another_origin_gets_nothing(
    served: Served, page: Page, foreign: str
) -> None:
    """Its requests reach the server, with the cookie even, as it is on another port only.

    They are as those of somebody who is nobody: nothing is read, joined, published or granted.
    """
    tab = await page.context.new_page()
    await tab.goto(foreign)
    assert [one["name"] for one in await tab.context.cookies(foreign)] == ["pipe"]
    seen = list(served.tokens.seen)
    found = await tab.evaluate(ATTACKS, served.url)
    assert found == {
        "get": "refused",
        "opaque": "opaque",
        "without": 401,
        "post": "opaque",
        "put": "refused",
        "grant": "opaque",
        "socket": "refused",
        "events": "refused",
        "image": "tried",
        "frame": "hidden",
    }
    assert [who for who in served.tokens.seen if who not in seen] == []
    assert served.members() == []
    assert not served.service.access.granted_by("alice")
    await tab.close()


async def test_a_form_of_another_origin_logs_nobody_in_or_out(
    served: Served, page: Page, foreign: str
) -> None:
    """A user who is logged in as somebody else would not notice."""
    tab = await page.context.new_page()
    for path in ("/login/mallory", "/logout"):
        await tab.goto(foreign)
        await tab.evaluate(
            """(action) => {
                const form = document.createElement("form");
                form.method = "post";
                form.action = action;
                document.body.append(form);
                form.submit();
            }""",
            served.url + path,
        )
        await expect(tab.get_by_text("That did not come from this page")).to_be_visible()
    assert list(served.tokens.cookies.values()) == ["alice"]
    await tab.close()


async def test_a_cookie_under_a_rebound_name_counts_as_absent(served: Served, page: Page) -> None:
    """Somebody's name that points to this machine is not this server's."""
    cookie = (await page.context.cookies())[0].get("value")
    for host, status in ((f"{HOST}:{served.port}", 200), (f"rebound.example:{served.port}", 401)):
        conn = await served.connect()
        head = f"GET /api/whoami HTTP/1.1\r\nHost: {host}\r\nCookie: pipe={cookie}\r\n\r\n"
        await conn.send(head.encode())
        assert (await conn.response()).status == status
