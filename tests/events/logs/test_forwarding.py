"""Lines on their way to another worker: in order, in batches, and never too many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pipe.errors import Unreachable
from pipe.events.logs import forwarding
from pipe.events.logs.drain import DROPPED, LogDrain
from pipe.events.logs.filters import Filter
from pipe.events.logs.forwarding import Forwarder, OwnLine, OwnLines

if TYPE_CHECKING:
    import pytest

BIG = "x" * 1000


class Home:
    """Where lines go, when a test lets them."""

    def __init__(self) -> None:
        self.batches: list[OwnLines] = []
        self.open = asyncio.Event()
        self.failures = 0

    async def send(self, lines: OwnLines) -> None:
        """Take some."""
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise Unreachable("nobody is there")
        self.batches.append(lines)

    async def until(self, count: int) -> list[OwnLine]:
        """Return so many lines once they are there."""
        async with asyncio.timeout(20):
            while sum(len(batch.lines) for batch in self.batches) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return [line for batch in self.batches for line in batch.lines]


def line(number: int, text: str = "", *, by_stranger: bool = False) -> OwnLine:
    """One of alice's lines."""
    fields = {"number": number, "text": text}
    return OwnLine.make(1.0, "alice", "INFO", "did", fields, by_stranger=by_stranger)


async def test_lines_arrive_in_order() -> None:
    """What comes while some are under way goes together afterwards."""
    home = Home()
    forwarder = Forwarder(home.send)
    for number in range(5):
        forwarder.add(line(number))
        await asyncio.sleep(0)
    home.open.set()
    lines = await home.until(5)
    assert [one.fields["number"] for one in lines] == list(range(5))
    assert len(home.batches) == 2


async def test_what_is_too_much_is_counted() -> None:
    """Lines that find no room are dropped, and the next batch says how many."""
    home = Home()
    forwarder = Forwarder(home.send)
    for number in range(2000):
        forwarder.add(line(number, BIG))
    home.open.set()
    lines = await home.until(forwarding.MAX_BYTES // 1250)
    assert len(lines) <= forwarding.MAX_BYTES // 1150
    assert sum(batch.dropped for batch in home.batches) == 2000 - len(lines)
    assert max(len(batch.lines) for batch in home.batches) <= forwarding.BATCH_BYTES // 1000


async def test_strangers_leave_room_for_others() -> None:
    """However many of their tries there are to tell, a user's own lines arrive."""
    home = Home()
    forwarder = Forwarder(home.send)
    for number in range(5000):
        forwarder.add(line(number, by_stranger=True))
    forwarder.add(line(-1))
    home.open.set()
    lines = await home.until(forwarding.MAX_BYTES_BY_STRANGERS // 200)
    async with asyncio.timeout(20):
        while lines[-1].fields["number"] != -1:
            lines = await home.until(len(lines) + 1)
    assert not any(batch.dropped for batch in home.batches)


async def test_lines_that_may_not_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not sent again, but counted, and the next ones are sent."""
    monkeypatch.setattr(forwarding, "PAUSE_SECONDS", 0.0)
    home = Home()
    home.failures = 1
    home.open.set()
    forwarder = Forwarder(home.send)
    forwarder.add(line(1))
    await asyncio.sleep(0.01)
    forwarder.add(line(2))
    assert [one.fields["number"] for one in await home.until(1)] == [2]
    assert home.batches[0].dropped == 1


def test_values_that_can_be_sent() -> None:
    """Long ones are cut, and others than JSON has are text of Unicode."""
    fields = {"long": BIG * 2, "none": None, "flag": True, "list": [1], "bad": "\udc80"}
    made = OwnLine.make(1.0, "al\udc80", "INFO", "did", fields)
    assert made.user == "al?"
    assert made.fields == {
        "long": BIG + "…",
        "none": None,
        "flag": True,
        "list": "[1]",
        "bad": "?",
    }


def test_drain_takes_them_as_its_own() -> None:
    """They are shown with the time when they were written, and admins are told what is missing."""
    drain = LogDrain(lambda _: None, clock=lambda: 100.0)
    drain.take_own(OwnLines((line(1), line(2, by_stranger=True), line(3)), dropped=4))
    mine = drain.past("alice", Filter(), 9)
    assert [b'"number":%d' % number in text for number, text in zip((1, 2, 3), mine, strict=True)]
    assert b"1970-01-01T00:00:01.000Z" in mine[0]
    assert b'"count":4' in drain.past("", Filter(), 9)[-1]
    assert drain.counts[DROPPED] == 4
