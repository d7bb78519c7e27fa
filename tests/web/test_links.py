"""Links: one topic, one direction, without an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import tickets

if TYPE_CHECKING:
    from .served import Served

READ, WRITE = "r" * 27, "w" * 27


async def test_a_link_reads_as_often_as_it_may(served: Served) -> None:
    """Looking at its page does not count; reading does, and then it is gone."""
    served.tokens.links[READ] = tickets.link("alice/report")
    for _ in range(3):
        assert (await served.ask("GET", f"/l/{READ}", user=None)).status == 200
    reader = await served.request("GET", f"/l/{READ}/raw", user=None)
    await served.wait_members(1)
    await served.ask("PUT", "/topic/report", b"for you")
    got = await reader.response()
    assert (got.status, got.body, got.whole) == (200, b"for you", True)
    again = await served.ask("GET", f"/l/{READ}/raw", user=None)
    assert again.status == 410
    assert (await served.ask("GET", f"/l/{READ}", user=None)).status == 410


async def test_a_link_writes(served: Served) -> None:
    """And its bearer gets the receipt."""
    served.tokens.links[WRITE] = tickets.link("alice/inbox", writes=True)
    reader = await served.request("GET", "/topic/inbox")
    await served.wait_members(1)
    sent = await served.ask("PUT", f"/l/{WRITE}/raw", b"gift", user=None)
    assert sent.text == "sent 4 bytes to 1 subscriber\n"
    assert (await reader.response()).body == b"gift"


async def test_a_link_has_one_direction(served: Served) -> None:
    """The other one is refused, and does not use it up."""
    served.tokens.links[READ] = tickets.link("alice/report")
    served.tokens.links[WRITE] = tickets.link("alice/inbox", writes=True)
    assert (await served.ask("PUT", f"/l/{READ}/raw", b"x", user=None)).status == 403
    assert (await served.ask("GET", f"/l/{WRITE}/raw", user=None)).status == 403
    assert served.tokens.links[READ].uses_left == 1


async def test_a_link_that_nobody_made(served: Served) -> None:
    """It is not found, and trying is charged for as other failed logins are."""
    got = await served.ask("GET", f"/l/{READ}/raw", user=None)
    assert got.status == 404
    assert got.text == "access denied: no such link: was it copied in full?\n"
