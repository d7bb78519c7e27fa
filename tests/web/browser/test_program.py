"""The whole way: `pipe serve`, a login over SSH, and what the page makes of it."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.e2e.clients import KeyRing, bare_environment, openssh
from tests.e2e.processes import HELD, Process
from tests.e2e.server import LANES, Server, Status
from tests.e2e.web import url

from .conftest import DEADLINE, Watch
from .views import drop, needs_xterm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="package")]

PEOPLE: Final = ("alice", "bob")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the program's own."""
    keys = KeyRing(tmp_path_factory.mktemp("keys"))
    server = Server(tmp_path_factory.mktemp("server") / "data", keys, LANES[0])
    for user in PEOPLE:
        assert server.run(user, "whoami").wait() == Status.OK
    yield server
    server.drop_clients()
    assert server.stop() == Status.OK


async def run(server: Server, user: str, command: str) -> str:
    """What a command says over SSH."""
    client = await asyncio.to_thread(server.run, user, command)
    assert client.wait() == Status.OK, client
    return client.output


@pytest_asyncio.fixture(loop_scope="package")
async def page(server: Server, browser: Browser) -> AsyncIterator[Page]:
    """A page on which alice has logged in, by the address that SSH printed."""
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(DEADLINE)
    await page.goto((await run(server, "alice", "login")).strip())
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    yield page
    await context.close()


async def test_logging_out_ends_the_login_everywhere(server: Server, page: Page) -> None:
    """`tokens` lists the browser, and a copy of its cookie is worth nothing afterwards."""
    listed = await run(server, "alice", "tokens")
    assert " login " in listed
    cookies = await page.context.cookies()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_text("Your SSH key is your account")).to_be_visible()
    assert await run(server, "alice", "tokens") != listed
    value = cookies[0].get("value", "")
    await page.context.add_cookies([{"name": "pipe", "value": value, "url": url(server, "/")}])
    await page.goto(url(server, "/"))
    await expect(page.get_by_text("Your SSH key is your account")).to_be_visible()


async def test_a_token_that_the_page_made_works_until_it_is_removed(
    server: Server, page: Page
) -> None:
    """It reads what was named, and nothing else."""
    watch = Watch(page)
    await page.goto(url(server, "/#/tokens"))
    await page.get_by_label("What it is for").fill("test")
    await page.get_by_label("May read", exact=True).fill("build")
    await page.get_by_role("button", name="Make a token").click()
    token = await page.locator(".secret code").text_content()
    assert token
    assert token.startswith("ptk_")

    async def status(topic: str) -> int:
        answer = await page.request.get(
            url(server, f"/topic/{topic}?timeout=0s"),
            headers={"Authorization": f"Bearer {token}", "Cookie": ""},
        )
        return answer.status

    assert await status("build") in {400, 504}
    assert await status("other") == 403
    await page.get_by_role("button", name="Remove").first.click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(page.get_by_text("No tokens")).to_be_visible()
    assert await status("build") == 401
    assert [text for text in watch.complaints if "Policy" in text] == []


async def test_a_link_from_the_page_takes_a_file_to_somebody_without_an_account(
    server: Server, page: Page, browser: Browser, tmp_path: Path
) -> None:
    """Once: it is gone then, and says so."""
    await page.goto(url(server, "/#/topic/alice/gift"))
    await page.get_by_role("button", name="Make a link").click()
    link = await page.locator(".secret code").text_content()
    assert link
    drawn = "img => img.complete && img.naturalWidth > 0"
    await expect(page.locator(".qr")).to_be_visible()
    assert await page.locator(".qr").evaluate(drawn)
    await drop(page, ["gift.bin"], 1 << 20)
    other = await (await browser.new_context()).new_page()
    await other.goto(link)
    await expect(other.get_by_text("shared by alice")).to_be_visible()
    async with other.expect_download(timeout=DEADLINE) as waiting:
        await other.get_by_role("link", name="Receive it as a file").click()
    download = await waiting.value
    assert await download.failure() is None
    assert download.suggested_filename == "gift.bin"
    await download.save_as(tmp_path / "gift")
    assert (tmp_path / "gift").read_bytes() == b"\x07" * (1 << 20)
    await expect(page.get_by_text("sent 1.0 MiB to 1 reader")).to_be_visible()
    await other.goto(link)
    await expect(other.get_by_text("used as often as it may be")).to_be_visible()
    await other.context.close()


async def test_a_grant_from_the_page_lets_another_read(server: Server, page: Page) -> None:
    """Until it is revoked there."""
    await page.goto(url(server, "/#/grants"))
    await page.get_by_label("Topic", exact=True).fill("shared")
    await page.get_by_label("Who", exact=True).fill("bob")
    await page.get_by_role("button", name="Grant", exact=True).click()
    await expect(page.get_by_role("table")).to_contain_text("sharedbobread")
    assert "read     yes" in await run(server, "bob", "explain alice/shared")
    await page.get_by_role("button", name="Revoke").click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(page.get_by_text("You share nothing yet")).to_be_visible()
    assert "read     no" in await run(server, "bob", "explain alice/shared")


async def test_what_ssh_writes_the_page_shows(server: Server, page: Page) -> None:
    """And the other way round, in one room."""
    await page.goto(url(server, "/#/chat/public/tea"))
    await expect(page.get_by_label("Say something")).to_be_enabled()
    client = server.ssh("bob", "pipe public/tea", stdin=HELD)
    await expect(page.get_by_text("2 pipes")).to_be_visible()
    client.write(b"bob: kettle is on\n")
    await expect(page.locator(".line")).to_have_text("bob: kettle is on")
    await page.get_by_label("Say something").fill("coming")
    await page.keyboard.press("Enter")
    await asyncio.to_thread(client.wait_stdout, len("alice: coming\n"))
    assert client.output == "alice: coming\n"
    client.kill()


@needs_xterm
async def test_a_shell_that_is_shared_by_ssh_is_a_terminal_in_the_page(
    server: Server, page: Page, tmp_path: Path
) -> None:
    """By the command that the page shows, with the test's own key and folder."""
    await page.goto(url(server, "/#/terminal"))
    shown = await page.locator(".empty code").text_content()
    assert shown
    head, pipe, tail = shown.partition("pipe desk")
    assert pipe
    fifo = shlex.quote(str(tmp_path / "desk"))
    key = server.keys.openssh("alice")
    ssh = shlex.join(openssh(server.port, key, "alice", "pipe desk"))
    command = f"mkfifo -m 600 ~/desk && {ssh}{tail}".replace("~/desk", fifo)
    assert head.startswith("mkfifo -m 600 ~/desk && ssh ")
    shell = server.adopt(
        Process(["bash", "-c", command], environment=bare_environment(), new_session=True)
    )
    await asyncio.to_thread(server.wait_sessions, pipe=1)  # a pipe never waits for the other end
    await page.goto(url(server, "/terminal#alice/desk"))
    await expect(page.get_by_text("joining …")).to_have_count(0)
    await page.keyboard.type("echo $((6 * 7))x")
    await page.keyboard.press("Enter")
    await expect(page.locator(".xterm-rows")).to_contain_text("42x")
    os.killpg(shell.pid, signal.SIGTERM)
    await asyncio.to_thread(shell.wait)
