"""Streams as programs see them, over any link."""

from __future__ import annotations

import asyncio
from typing import Any

from pipe.library.streams import Duplex


class Link:
    """One that gives back what was sent."""

    def __init__(self) -> None:
        self._sent: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        """Take it."""
        self._sent.put_nowait(data)

    async def receive(self) -> bytes:
        """Return it."""
        return await self._sent.get()

    def drop(self) -> None:
        """It is forgotten."""


async def test_two_tasks_begin_at_once() -> None:
    """A stream is joined once, although one task reads and another writes before it is open."""
    opened: list[Link] = []

    async def opener() -> Any:  # noqa: ANN401
        await asyncio.sleep(0)
        opened.append(Link())
        return opened[-1]

    stream = Duplex(opener)
    read, _ = await asyncio.gather(anext(stream), stream.write(b"hello"))
    assert read == b"hello"
    assert len(opened) == 1
