"""The page's views of events, with the server: what they show, and what they change."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from pipe.app import start_webhooks
from pipe.events.listener import Listener
from tests.web.receiver import OK, receiving, status
from tests.web.served import Served, serving

from .conftest import DEADLINE, Watch
from .standin import StandIn, monitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Locator, Page

pytestmark = pytest.mark.asyncio(loop_scope="package")

SMALL = "document.documentElement.scrollWidth - innerWidth"


@pytest_asyncio.fixture(loop_scope="package")
async def served() -> AsyncIterator[Served]:
    """A server with alice and a log drain, which may send webhooks to this machine."""
    async with serving(log_drain="ops/log-drain", webhook_networks="127.0.0.0/8") as served:
        service = served.service
        await served.people.add("alice", "ops")
        topic = service.settings.log_drain_topic
        assert topic
        drain = Listener(service.router, topic, service.logs.take, service.logs.ended)
        drain.start()
        await start_webhooks(service)
        try:
            yield served
        finally:
            await service.webhooks.close()
            drain.stop()


@pytest_asyncio.fixture(loop_scope="package")
async def page(served: Served, browser: Browser) -> AsyncIterator[Page]:
    """A small page on which alice has logged in; nothing sticks out, and it has no complaint.

    A request that is refused on purpose is a complaint of the browser's own.
    """
    context = await browser.new_context(viewport={"width": 360, "height": 740})
    page = await context.new_page()
    page.set_default_timeout(DEADLINE)
    watch = Watch(page)
    await page.goto(f"{served.url}/login/alice")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    yield page
    assert await page.evaluate(SMALL) <= 0
    assert [text for text in watch.complaints if "Failed to load resource" not in text] == []
    await context.close()


async def open_view(served: Served, page: Page, name: str) -> None:
    """Go to a view."""
    await page.goto(f"{served.url}/#/{name.lower()}")
    await expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    await expect(page.get_by_text("Asking the server")).to_have_count(0)


async def log(served: Served, *lines: dict[str, Any]) -> None:
    """A service logs."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert (await served.ask("POST", "/api/logs", body, user="ops")).status == 204


async def remove(page: Page) -> None:
    """Press the button, and the one that it asks with."""
    await page.get_by_role("button", name="Remove:").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()


def cards(page: Page) -> Locator:
    """All items of a view."""
    return page.locator(".card")


async def test_log_lines_come_as_they_are_written(served: Served, page: Page) -> None:
    """Past ones first; only one's own; as text, whatever they say; and those that one asked for."""
    script = "<img src=x onerror=alert(1)>"
    await log(
        served,
        {"time": "2026-01-01T10:00:00Z", "level": "INFO", "msg": script, "user": "alice"},
        {"level": "WARN", "msg": "disk\x1b[31m", "service": "web", "user": "alice", "free": 3},
        {"msg": "of somebody else", "user": "ops"},
    )
    await open_view(served, page, "Logs")
    lines = page.locator(".log-lines .line")
    messages = page.locator(".log-message")
    await expect(messages).to_have_text([script, "disk"])
    await expect(lines.last).to_have_text("WARN web disk free=3")
    assert await page.locator(".log-lines img").count() == 0
    await log(served, {"level": "error", "msg": "live", "service": "web", "user": "alice"})
    await expect(messages.last).to_have_text("live")
    await page.get_by_label("Level").select_option("error")
    await expect(messages).to_have_text(["live"])
    await page.get_by_label("Level").select_option("debug")
    await page.get_by_label("Text in the line").fill("disk")
    await expect(messages).to_have_text(["disk"])
    await page.get_by_role("textbox", name="Service").fill("mail")
    await expect(page.get_by_text("No line yet")).to_be_visible()


async def test_log_lines_can_be_held_up(served: Served, page: Page) -> None:
    """Nothing moves while one reads, and what came meanwhile is there afterwards."""
    await open_view(served, page, "Logs")
    await expect(page.get_by_text("following")).to_be_visible()
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_text("paused")).to_be_visible()
    async with page.expect_response("**/api/whoami"):  # it has gone there and back by then
        await log(served, {"msg": "one", "user": "alice"})
        await page.evaluate("fetch('/api/whoami').then((answer) => answer.text())")
    await expect(page.locator(".line")).to_have_count(0)
    await log(served, {"msg": "two", "user": "alice"})
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator(".log-message")).to_have_text(["one", "two"])


async def test_a_hook_is_made_used_and_removed(served: Served, page: Page) -> None:
    """Its secret is shown once and works; what came of deliveries can be seen; a new one counts."""
    await open_view(served, page, "Hooks")
    await expect(page.get_by_text("hooks add deploys --kind generic")).to_be_visible()
    await page.get_by_label("Topic").fill("greetings")
    await page.get_by_label("What it is for").fill("the shop")
    await page.get_by_role("button", name="Make a hook").click()
    shown = page.locator(".secret code")
    await expect(shown).to_have_count(2)
    url, secret = await shown.all_text_contents()
    async with httpx.AsyncClient() as client:
        for word, number in ((secret, 202), ("wrong", 401)):
            headers = {"Authorization": f"Bearer {word}"}
            answer = await client.post(url, content=b"hello", headers=headers)
            assert answer.status_code == number
    await page.get_by_role("button", name="Test: the shop").click()
    told = "(published a test event on|a test event is on its way to) alice/greetings"
    await expect(page.get_by_text(re.compile(told))).to_be_visible()
    await expect(page.get_by_role("button", name="Test: the shop")).to_be_focused()
    await page.get_by_text("deliveries").click()
    await expect(cards(page).get_by_role("row")).to_have_count(3)
    # It depends on whether the answer waited for what became of it.
    await expect(cards(page)).to_contain_text(
        re.compile("nobody read the topic|waits for a reader")
    )
    await page.get_by_role("button", name="New secret: the shop").click()
    await page.get_by_role("dialog").get_by_role("button", name="New secret").click()
    await expect(cards(page).locator(".secret code")).to_have_count(2)
    assert await cards(page).locator(".secret code").last.text_content() != secret
    await remove(page)
    await expect(page.get_by_text("No hooks")).to_be_visible()


async def test_a_webhook_is_made_tried_and_removed(served: Served, page: Page) -> None:
    """Its secret is shown once; what came back from its receiver can be read, good or bad."""
    await open_view(served, page, "Webhooks")
    await expect(page.get_by_text("webhooks add deploys https://").first).to_be_visible()
    async with receiving(OK, status(500)) as receiver:
        await page.get_by_label("Topic").fill("deploys")
        await page.get_by_label("Send to").fill(f"http://127.0.0.1:{receiver.port}/x")
        await page.get_by_role("button", name="Make a webhook").click()
        await expect(page.locator(".secret code")).to_contain_text("whsec_")
        await page.get_by_role("button", name="Test:").click()
        await expect(cards(page).get_by_text("answered 200 after")).to_be_visible()
        await page.get_by_role("button", name="Test:").click()
        await expect(cards(page).get_by_text("not arrived: answered 500")).to_be_visible()
        assert len(receiver.got) == 2
    await remove(page)
    await expect(page.get_by_text("No webhooks")).to_be_visible()


async def test_a_monitor_is_made_paused_and_removed(served: Served, page: Page) -> None:
    """A bad word is told in the server's words; feed, badge and page are there for others."""
    await open_view(served, page, "Monitors")
    await expect(page.get_by_text("monitor add nightly --every 1d")).to_be_visible()
    await page.get_by_label("Topic", exact=True).fill("backup")
    await page.get_by_label("How often something comes").fill("1s")
    await page.get_by_role("button", name="Watch it").click()
    await expect(page.get_by_role("alert").filter(has_text="it takes 30s to")).to_be_visible()
    await page.get_by_label("How often something comes").fill("1h")
    await page.get_by_role("button", name="Watch it").click()
    await expect(cards(page)).to_contain_text("backup new")
    await expect(cards(page)).to_contain_text("something every 1h, 6m of grace")
    await page.get_by_role("button", name="Pause: backup").click()
    await expect(cards(page)).to_contain_text("backup paused")
    await page.get_by_role("button", name="Resume: backup").click()
    await expect(cards(page)).to_contain_text("backup new")
    await page.get_by_text("Feed, badge and status page").click()
    addresses = page.locator("details code")
    await expect(addresses).to_have_count(3)
    for address, kind in zip(
        await addresses.all_text_contents(), ("atom", "svg", "html"), strict=True
    ):
        answer = await served.ask("GET", address.removeprefix(served.url), user=None)
        assert kind in answer.headers["content-type"]
    await remove(page)
    await expect(page.get_by_text("No monitors")).to_be_visible()


async def test_what_is_down_comes_first_with_a_bar_for_each_day(
    browser: Browser, standin: StandIn
) -> None:
    """Each bar is good, bad, between or not known; a share is 100 % only if it was all the time."""
    days = [None, 1.0, 0.9, 0.1]
    standin.monitors = [
        monitor("alice/good", "up", "something came", days=[1.0], uptime={"7d": 0.99999}),
        monitor("alice/bad", "down", "nothing has come", days=days),
    ]
    page = await browser.new_page()
    await page.goto(f"{standin.url}/#/monitors")
    await expect(page.locator(".lead").last).to_have_text("2 monitors · 1 down")
    await expect(cards(page).locator("h2")).to_have_text(["bad down", "good up"])
    bars = cards(page).first.locator(".day")
    kinds = [await bar.get_attribute("class") for bar in await bars.all()]
    assert kinds == ["day", "day day-up", "day day-part", "day day-down"]
    await expect(cards(page).last.locator(".spans")).to_have_text("7d99.99 %")
