"""The page in Chromium: what is shown, sent and received, and what is kept from scripts."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from .conftest import Watch
from .standin import CODE, LINK, StandIn, session, topic
from .views import EVERY_VIEW, drop, fill, needs_xterm, open_view

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_login_by_address_asks_first_and_lets_in_then(page: Page, standin: StandIn) -> None:
    """Opening the address uses nothing up; the button does, and leads to the page."""
    standin.logged_in = False
    await page.goto(f"{standin.url}/login/{CODE}")
    await expect(page.get_by_role("heading")).to_have_text("Log in as alice?")
    assert not standin.logged_in
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(f"{standin.url}/")
    await expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    cookie = (await page.context.cookies())[0]
    assert cookie.get("httpOnly")
    assert cookie.get("sameSite") == "Strict"
    assert await page.evaluate("document.cookie") == ""


async def test_who_is_not_logged_in_is_told_how(page: Page, standin: StandIn) -> None:
    """With the command, ready to be copied."""
    standin.logged_in = False
    await page.goto(standin.url)
    await expect(page.get_by_text("ssh -p 2222 YOU@pipe.example.org login").first).to_be_visible()


async def test_logging_out_leads_out(page: Page, standin: StandIn) -> None:
    """And the session has ended on the server."""
    await page.goto(f"{standin.url}/login/{CODE}")
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_text("Your SSH key is your account")).to_be_visible()
    assert not standin.logged_in


async def test_topics_come_and_go_as_they_live(page: Page, standin: StandIn) -> None:
    """What waits and what is clogged can be seen, and an empty list teaches the first command."""
    await page.goto(standin.url)
    first = "ssh -p 2222 alice@pipe.example.org sub hello"
    await expect(page.get_by_text(first, exact=True)).to_be_visible()
    standin.topics = [
        topic("alice/report", publishers=1, waiting=1),
        topic("bob/log", publishers=1, subscribers=2, clogged=1, clogged_seconds=65.0),
    ]
    standin.changed.set()
    rows = page.locator(".topic")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("report1 writerwaits for a reader")
    await expect(rows.nth(1)).to_contain_text(
        "bob/log1 writer · 2 readers1 reader clogged for 1m05s"
    )
    await expect(page.get_by_text(first, exact=True)).to_have_count(0)
    standin.topics = standin.topics[:1]
    standin.changed.set()
    await expect(rows).to_have_count(1)
    await page.get_by_label("Find or open a topic").fill("new/one")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("new/one")


async def test_members_are_asked_for_only_while_somebody_looks(
    page: Page, standin: StandIn
) -> None:
    """With bytes and rates, and who holds up whom; each second, until another view is opened."""
    await page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(standin.url)))
    standin.topics = [topic("alice/build", publishers=1, subscribers=1)]
    standin.sessions = [
        session("alice", "publish", in_bytes=2048, in_bytes_per_second=1024, held_up=True),
        session("bob", "subscribe", out_bytes=1024, clogged=True, clogged_seconds=65.4),
    ]
    standin.unseen = 1
    await open_view(page, standin, "#/topic/alice/build")
    rows = page.locator("tbody tr")
    await expect(rows.nth(0)).to_contain_text("alice (you)writes192.0.2.72.0 KiB1.0 KiB/s")
    await expect(rows.nth(0)).to_contain_text("held up by bob")
    await expect(rows.nth(1)).to_contain_text("clogged for 1m05s")
    await expect(page.get_by_text("and 1 other")).to_be_visible()

    standin.sessions = [session("alice", "publish", waiting_for=2)]
    await page.clock.run_for(1000)
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("waits for 2 readers")

    await page.get_by_role("link", name="Topics").first.click()
    await expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    before = asked.count("/api/stat/alice/build")
    assert before >= 2
    await page.clock.run_for(5000)
    assert asked.count("/api/stat/alice/build") == before


async def test_a_topic_is_read_only_when_that_is_asked_for(page: Page, standin: StandIn) -> None:
    """Reading joins: a writer that waits would start. What comes is text, whatever it says."""
    script = "<img src=x onerror=alert(1)>"
    standin.stream = [
        b"one\ntw",
        b"o\n",
        script.encode() + b"\n",
        b"\x1b[31mred\x1b[0m \x07\n",
        b"end",
    ]
    await open_view(page, standin, "#/topic/alice/build")
    assert not [path for _, path, _ in standin.asked if path.startswith("/topic/")]
    await page.get_by_role("button", name="Follow").click()
    lines = page.locator(".lines .line")
    await expect(lines).to_have_text(["one", "two", script, "red ␇", "end"])
    assert await page.locator(".lines img").count() == 0
    read = [path for _, path, _ in standin.asked if path.startswith("/topic/")]
    assert read == ["/topic/alice/build?persist=true&slow=drop"]


async def test_a_tail_keeps_the_newest_lines_only(page: Page, standin: StandIn) -> None:
    """However long a stream is, and a line without an end is cut: a page has a bound too."""
    numbers = b"".join(b"%d\n" % number for number in range(12_000))
    standin.stream = [numbers, b"x" * 100_000, b"y" * 100_000, b"tail\nlast\n"]
    await open_view(page, standin, "#/topic/alice/build")
    await page.get_by_role("button", name="Follow").click()
    lines = page.locator(".lines .line")
    await expect(lines.last).to_have_text("last")
    assert await lines.count() == 5000
    assert await lines.nth(-2).evaluate("line => line.textContent.length") == 4097
    assert await lines.nth(-3).text_content() == "11999"


async def test_a_tail_that_breaks_says_so(page: Page, standin: StandIn) -> None:
    """It must not look like a stream that came to its end."""
    standin.stream, standin.breaks = [b"half\n"], True
    await open_view(page, standin, "#/topic/alice/build")
    await page.get_by_role("button", name="Follow").click()
    await expect(page.get_by_text("the stream broke")).to_be_visible()


async def test_a_file_that_is_dropped_is_sent_with_progress(page: Page, standin: StandIn) -> None:
    """It waits for its reader; its name goes along, and the receipt is shown at the end."""
    size = 32 << 20  # more than sockets take
    standin.reads.clear()
    await open_view(page, standin, "#/topic/alice/build")
    await drop(page, ["müll, 'x'.bin"], size)
    progress = page.get_by_role("progressbar")
    await expect(progress).to_be_visible()
    assert 0 <= float(await progress.evaluate("bar => bar.value")) < 1
    standin.reads.set()
    await expect(page.get_by_text("sent 32.0 MiB to 1 reader")).to_be_visible()
    await expect(progress).to_have_count(0)
    assert standin.received["/topic/alice/build"] == b"\x07" * size
    names = [name for method, _, name in standin.asked if method == "PUT"]
    assert names == ["attachment; filename*=UTF-8''m%C3%BCll%2C%20%27x%27.bin"]


async def test_a_stream_carries_one_file(page: Page, standin: StandIn) -> None:
    """Several would run into each other, so none of them is sent."""
    await open_view(page, standin, "#/topic/alice/build")
    await drop(page, ["one", "two"], 10)
    await expect(page.get_by_text("a stream carries one file")).to_be_visible()
    assert not standin.received


async def test_a_file_beside_the_place_for_it_does_not_replace_the_page(
    page: Page, standin: StandIn
) -> None:
    """A browser would open it otherwise, and all that was written would be gone."""
    await open_view(page, standin, "#/topic/alice/build")
    ignored = await page.evaluate(
        """() => {
            const event = {dataTransfer: new DataTransfer(), bubbles: true, cancelable: true};
            return !document.body.dispatchEvent(new DragEvent("drop", event));
        }"""
    )
    assert ignored


async def test_sending_can_be_cancelled(page: Page, standin: StandIn) -> None:
    """The connection ends, so that its readers learn that it broke."""
    standin.reads.clear()
    await open_view(page, standin, "#/topic/alice/build")
    await drop(page, ["one"], 1 << 20)
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_text("cancelled: what was sent breaks off")).to_be_visible()


async def test_text_is_sent_as_a_line(page: Page, standin: StandIn) -> None:
    """At once where nobody is to be waited for."""
    await open_view(page, standin, "#/topic/alice/build")
    await page.get_by_label("Wait for a reader").uncheck()
    await page.get_by_label("Text to send").fill("hello ✓")
    await page.get_by_role("button", name="Send text").click()
    await expect(page.get_by_text("sent 10 B to 1 reader")).to_be_visible()
    assert standin.received == {"/topic/alice/build?block=false": "hello ✓\n".encode()}


async def test_a_download_is_marked_as_failed_if_the_stream_breaks(
    page: Page, standin: StandIn, tmp_path: Path
) -> None:
    """And is whole if it did not."""
    standin.stream = [bytes(range(256)) * 4096]
    await open_view(page, standin, "#/topic/alice/build")
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="Download").click()
    download = await waiting.value
    assert await download.failure() is None
    await download.save_as(tmp_path / "whole")
    digest = hashlib.sha256((tmp_path / "whole").read_bytes()).digest()
    assert digest == hashlib.sha256(standin.stream[0]).digest()
    assert download.suggested_filename.startswith("build")
    standin.breaks = True
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="Download").click()
    assert await (await waiting.value).failure() is not None


async def test_a_room_is_events_one_way_and_lines_the_other(page: Page, standin: StandIn) -> None:
    """As ``chat --json`` over SSH: the server says whose a line is, and text stays text."""
    events = [
        {"type": "join", "user": "bob", "name": "bob~b"},
        {"type": "message", "user": "bob", "name": "bob~b", "text": "<b>hi</b> \x1b[2J"},
        {"type": "action", "user": "bob", "name": "bob", "text": "waves"},
        {"type": "rename", "user": "bob", "name": "bob~b", "new_name": "bob"},
        {"type": "note", "text": "3 lines of eve were left out"},
        {"type": "leave", "user": "bob", "name": "bob"},
    ]
    sent = "".join(json.dumps(event) + "\n" for event in events)
    await page.goto(f"{standin.url}/#/chat/public/tea")
    await standin.joined.wait()
    assert standin.socket
    await expect(page.get_by_text("Nobody has written anything yet.")).to_be_visible()
    await standin.socket.send_str(sent[:30])
    await standin.socket.send_str(sent[30:])
    lines = page.locator(".line")
    await expect(lines).to_have_text(
        [
            "bob~b has come",
            "bob~b: <b>hi</b> ␛[2J",
            "* bob waves",
            "bob~b is now bob",
            "3 lines of eve were left out",
            "bob has left",
        ]
    )
    await expect(page.get_by_text("Nobody has written anything yet.")).to_be_hidden()
    await page.get_by_label("Say something").fill("tea?")
    await page.keyboard.press("Enter")
    await expect(lines.last).to_have_text("alice: tea?")
    while not (said := [text for kind, _, text in standin.asked if kind == "WS"]):  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # the page shows a line before it has arrived
    assert said == ["tea?\n"]
    await standin.socket.close(code=4077, message=b"access to public/tea has ended")
    await expect(page.get_by_text("access to public/tea has ended")).to_be_visible()
    await expect(page.get_by_role("button", name="Join again")).to_be_visible()


@needs_xterm
async def test_a_terminal_sends_keys_and_draws_bytes(page: Page, standin: StandIn) -> None:
    """Tab is a key of it as well, so another one leads out of it."""
    watch = Watch(page)
    await page.goto(f"{standin.url}/terminal#alice/desk")
    await standin.joined.wait()
    assert standin.socket
    await standin.socket.send_bytes(b"\x1b[32m$\x1b[0m ")
    await expect(page.locator(".xterm-rows")).to_contain_text("$")
    await page.keyboard.type("ls")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Control+c")
    await standin.socket.send_bytes(b"done")
    await expect(page.locator(".xterm-rows")).to_contain_text("done")
    typed = b"".join(text for kind, _, text in standin.asked if kind == "WS")
    assert typed == b"ls\t\x03"
    await page.keyboard.press("Control+Shift+x")
    await expect(page.locator(".brand")).to_be_focused()
    assert watch.complaints == []


async def test_a_terminal_that_is_not_there_says_how_to_get_it(
    page: Page, standin: StandIn
) -> None:
    """All else works without it."""
    await open_view(page, standin, "#/terminal")
    await page.evaluate("document.body.dataset.terminal = 'no'; location.hash = '#/topics'")
    await page.evaluate("location.hash = '#/terminal'")
    await expect(page.get_by_text("make web")).to_be_visible()


async def test_what_is_made_is_shown_once_and_what_is_removed_is_asked_about(
    page: Page, standin: StandIn
) -> None:
    """Tokens, links and grants by the API, in the words of the commands."""
    fill(standin)
    await open_view(page, standin, "#/tokens")
    await page.get_by_label("What it is for").fill("ci")
    await page.get_by_label("May read").fill("build, ci-*")
    await page.get_by_role("button", name="Make a token").click()
    await expect(page.get_by_text("ptk_abc_secret")).to_be_visible()
    await page.get_by_role("button", name="Remove").first.click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await open_view(page, standin, "#/links")
    await page.get_by_label("Topic").fill("report")
    await page.get_by_role("button", name="Make a link").click()
    await expect(page.get_by_alt_text("The link as a QR code")).to_be_visible()
    loaded = "img => img.complete && img.naturalWidth > 0"
    assert await page.locator(".qr").evaluate(loaded)
    await open_view(page, standin, "#/grants")
    await page.get_by_label("Topic").fill("report")
    await page.get_by_label("Who").fill("bob, carol")
    await page.get_by_role("button", name="Grant", exact=True).click()
    await expect(page.get_by_text("bob, carol may use it now")).to_be_visible()
    assert standin.asked == [
        ("POST", "tokens", {"name": "ci", "read": "build,ci-*", "write": None, "for": "90d"}),
        ("DELETE", "tokens", {"id": "aaa"}),
        ("POST", "links", {"topic": "alice/report", "write": False, "for": "1d", "uses": "1"}),
        (
            "POST",
            "grants",
            {"topic": "alice/report", "who": ["bob", "carol"], "read": True}
            | {"write": False, "for": None},
        ),
    ]


async def test_a_link_is_a_page_first(page: Page, standin: StandIn, tmp_path: Path) -> None:
    """Looking at it joins nothing: chats look at addresses. The button does."""
    standin.stream = [b"for you\n"]
    await page.goto(f"{standin.url}/l/{LINK}")
    await expect(page.get_by_role("heading")).to_have_text("A stream for you")
    assert standin.asked == []
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name="Receive it as a file").click()
    await (await waiting.value).save_as(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"for you\n"
    await page.get_by_role("button", name="Show it as text").click()
    await expect(page.locator(".line")).to_have_text("for you")


async def test_a_link_to_write_takes_a_file(page: Page, standin: StandIn) -> None:
    """From somebody without an account."""
    await page.goto(f"{standin.url}/l/{LINK}w")
    await drop(page, ["gift"], 100)
    await expect(page.get_by_text("sent 100 B to 1 reader")).to_be_visible()
    assert standin.received == {f"/l/{LINK}w/raw": b"\x07" * 100}


async def test_no_view_breaks_the_policy_or_talks_to_others(page: Page, standin: StandIn) -> None:
    """No violation, no error, no warning, and no host but ours."""
    fill(standin)
    watch = Watch(page)
    for view in EVERY_VIEW:
        await open_view(page, standin, view)
    assert watch.complaints == []
    assert watch.origins == {standin.url}


async def test_the_policy_stops_what_would_get_in(page: Page, standin: StandIn) -> None:
    """Scripts and styles in markup, and other hosts: a hole in the page would lead nowhere."""
    watch = Watch(page)
    await open_view(page, standin, "#/topics")
    ran = await page.evaluate(
        """async () => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
            document.body.setAttribute("style", "--hacked: 1");
            const elsewhere = fetch("http://localhost:9/", {mode: "no-cors"});
            const sent = await elsewhere.then(() => 1, () => 0);
            const style = getComputedStyle(document.body).getPropertyValue("--hacked");
            return [window.hacked ?? 0, style, sent];
        }"""
    )
    assert ran == [0, "", 0]
    violations = [text for text in watch.complaints if "Content Security Policy" in text]
    assert len(violations) >= 3


async def test_a_page_that_nobody_looks_at_keeps_no_connection(
    page: Page, standin: StandIn
) -> None:
    """A browser has six to a host, for all its tabs."""
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    await open_view(page, standin, "#/topics")
    await standin.followed.wait()
    await page.evaluate(hide, True)
    await standin.left.wait()
    standin.topics = [topic("alice/late")]
    await page.evaluate(hide, False)
    await expect(page.locator(".topic")).to_have_count(1)
