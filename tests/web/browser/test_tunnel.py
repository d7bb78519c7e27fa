"""A page that somebody else wrote, in the browser of a user who has forwarded a port to us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import expect

from pipe.language.names import TopicName
from tests.e2e.server import free_port
from tests.tunnelling import Tunnelled, tunnelling
from tests.web.served import HOST

from .conftest import DEADLINE, REBOUND
from .test_server import ATTACKS, foreign

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="package")

__all__ = ["foreign"]


@pytest_asyncio.fixture(loop_scope="package")
async def server(tmp_path: Path) -> AsyncIterator[Tunnelled]:
    """A server."""
    async with tunnelling(tmp_path) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="package")
async def port(server: Tunnelled) -> AsyncIterator[int]:
    """A port that alice has forwarded."""
    port = free_port()
    client = await server.log_in()
    listener = await client.forward_local_port(HOST, port, "localhost", 80)
    yield port
    listener.close()
    await listener.wait_closed()


def nothing_has_come(server: Tunnelled) -> bool:
    """Whether nobody has joined, written or granted anything."""
    access = server.service.access
    return not (
        server.service.router.names()
        or access.granted_by("alice")
        or TopicName("alice", ("secret",)) in server.service.router
    )


async def test_a_page_of_another_origin_gets_nothing(
    server: Tunnelled, page: Page, port: int, foreign: str
) -> None:
    """Nobody needs a token in the tunnel, and still it reads, joins and writes nothing."""
    await page.goto(foreign)
    found = await page.evaluate(ATTACKS, f"http://localhost:{port}")
    assert found == {
        "get": "refused",
        "opaque": "opaque",
        "without": "refused",
        "post": "opaque",
        "put": "refused",
        "grant": "opaque",
        "socket": "refused",
        "events": "refused",
        "image": "tried",
        "frame": "hidden",
    }
    assert nothing_has_come(server)
    counted = server.service.metrics.registry.get_sample_value(
        "pipe_refused_total", {"reason": "origin"}
    )
    assert counted
    assert counted >= len(found) - 2  # those that a browser asks about first count once


async def test_a_rebound_name_gets_nothing(server: Tunnelled, page: Page, port: int) -> None:
    """Such a page is of the tunnel's own origin, as the browser sees it, but for its name."""
    answer = await page.goto(f"http://{REBOUND}:{port}/")
    assert answer
    assert answer.status == 403
    found = await page.evaluate(ATTACKS, f"http://{REBOUND}:{port}")
    assert {found[name] for name in ("get", "opaque", "without", "post", "put", "grant")} == {403}
    assert (found["socket"], found["events"]) == ("refused", "refused")
    assert nothing_has_come(server)


async def test_the_own_page_works_without_a_login(server: Tunnelled, page: Page, port: int) -> None:
    """Whoever has logged in over SSH opens the page in the tunnel, and it knows who that is."""
    page.set_default_timeout(DEADLINE)
    await page.goto(f"http://localhost:{port}/")
    await expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    await page.goto(f"http://localhost:{port}/#/chat/public/tea")
    await expect(page.get_by_label("Say something")).to_be_enabled()
    [session] = [one for one in server.service.sessions if one.member]
    assert session.caller.user == "alice"
