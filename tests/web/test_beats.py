"""Beats beside a stream: what they interrupt goes on as if there had been none."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from pipe.web.link import WebLink
from pipe.web.port import Bell


class Transport:
    """A transport that is full until it is told otherwise, and its port."""

    def __init__(self) -> None:
        self.waiter = asyncio.get_running_loop().create_future()
        self.unsent = 5
        self.over = False
        self.bell = Bell()
        self.reads_ahead = False
        self.drains = 0
        self.drained_at: list[int] = []  # what was unsent then

    async def drain(self) -> None:
        """Wait as aiohttp does, for a future that all share."""
        self.drains += 1
        await self.waiter

    def pop(self) -> None:
        """Nothing is queued."""

    def drained(self) -> None:
        """Everything is written."""
        self.drained_at.append(self.unsent)

    def write(self) -> None:
        """Write everything."""
        self.unsent = 0
        self.waiter.set_result(None)


def link_of(transport: Any) -> WebLink:  # noqa: ANN401
    """A link over it."""
    writer = SimpleNamespace(drain=transport.drain)
    exchange: Any = SimpleNamespace(
        port=transport, parts=SimpleNamespace(service=None), request=SimpleNamespace(writer=writer)
    )
    wanted: Any = None
    return WebLink(exchange, wanted)


async def interrupt(reading: asyncio.Task[bytes]) -> None:
    """Do what a beat does."""
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading


async def test_what_is_awaited_outlives_beats() -> None:
    """However many come, aiohttp's future is awaited once, and the port hears that it is done."""
    transport = Transport()
    link = link_of(transport)
    for _ in range(3):
        reading = asyncio.create_task(link.receive())
        await asyncio.sleep(0.001)
        await interrupt(reading)
    assert not transport.waiter.cancelled()
    reading = asyncio.create_task(link.receive())
    await asyncio.sleep(0.001)
    assert not transport.drained_at
    transport.write()
    await asyncio.sleep(0.001)
    assert transport.drains == 1
    assert transport.drained_at == [0]
    await interrupt(reading)


async def test_a_beat_in_the_moment_of_the_last_byte() -> None:
    """The port hears of it with the next turn, or a publisher would wait for ever."""
    transport = Transport()
    link = link_of(transport)
    reading = asyncio.create_task(link.receive())
    await asyncio.sleep(0.001)
    transport.write()
    await interrupt(reading)
    assert not transport.drained_at
    reading = asyncio.create_task(link.receive())
    await asyncio.sleep(0.001)
    assert transport.drained_at == [0]
    await interrupt(reading)


async def test_a_connection_lost_while_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads next hears of it, and the log does not."""
    transport = Transport()
    link = link_of(transport)
    reading = asyncio.create_task(link.receive())
    await asyncio.sleep(0.001)
    await interrupt(reading)
    transport.waiter.set_exception(ConnectionError("lost"))
    await asyncio.sleep(0.001)
    with pytest.raises(ConnectionError, match="lost"):
        await link.receive()
    del link
    assert not caplog.records
