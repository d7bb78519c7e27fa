"""Frames on Unix sockets."""

from __future__ import annotations

import asyncio
import struct
from random import Random
from typing import TYPE_CHECKING

import pytest

from pipe.errors import Unreachable
from pipe.mesh.directory import WorkerId
from pipe.mesh.unix import HIGH_WATER_BYTES, MAX_FRAME_BYTES, Sockets, UnixWire
from tests.e2e.processes import DEADLINE
from tests.mesh.neighbours import Neighbours

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ME = WorkerId("", 1, 1)


class Peer:
    """One end of a wire, in a link's place."""

    def __init__(self) -> None:
        self.wire: UnixWire | None = None
        self.got: list[bytes] = []
        self.changes: list[bool] = []
        self.reason = ""
        self.news = asyncio.Event()

    def attach(self, wire: UnixWire) -> None:
        """Keep it."""
        self.wire = wire
        self.news.set()

    def received(self, frame: memoryview) -> None:
        """Keep a copy."""
        self.got.append(bytes(frame))
        self.news.set()

    def wire_blocked(self, blocked: bool) -> None:
        """Keep it."""
        self.changes.append(blocked)
        self.news.set()

    def lost(self, reason: str) -> None:
        """Keep it."""
        self.reason = reason
        self.news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what must come."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.news.clear()
                await self.news.wait()


def cut(frame: bytes) -> tuple[bytes, memoryview]:
    """A frame in two pieces, one of them perhaps empty."""
    return frame[:9], memoryview(frame)[9:]


class Two:
    """Two ends, connected."""

    def __init__(self, folder: Path) -> None:
        self.peers = Neighbours(ME, folder, {})
        self.sockets = Sockets(self.peers)
        self.here, self.there = Peer(), Peer()
        self.server: asyncio.Server

    async def __aenter__(self) -> Two:
        """Connect."""
        self.server = await self.sockets.listen(lambda: self.there)  # type: ignore[arg-type, return-value]
        await self.sockets.connect(ME, self.here)  # type: ignore[arg-type]
        await self.there.until(lambda: self.there.wire)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all."""
        for peer in (self.here, self.there):
            if peer.wire:
                peer.wire.close()
        self.server.close()
        await asyncio.sleep(0)


async def test_frames_of_all_sizes(tmp_path: Path) -> None:
    """Frames come whole, in order and as they were, however long and however many."""
    random = Random(7)
    sizes = [0, 1, 9, 100_000, MAX_FRAME_BYTES, *(random.randrange(70_000) for _ in range(300))]
    frames = [random.randbytes(size) for size in sizes]
    async with Two(tmp_path) as two:
        assert two.here.wire
        for start in range(0, len(frames), 7):
            two.here.wire.send([cut(frame) for frame in frames[start : start + 7]])
        await two.there.until(lambda: len(two.there.got) == len(frames))
        assert two.there.got == frames


async def test_is_blocked_and_free_again(tmp_path: Path) -> None:
    """More than a mebibyte unsent is told, and when that is gone."""
    async with Two(tmp_path) as two:
        assert two.here.wire
        two.here.wire.send([(bytes(60_000),)] * (4 * HIGH_WATER_BYTES // 60_000))
        assert two.here.wire.blocked
        await two.here.until(lambda: two.here.changes == [True, False])
        assert not two.here.wire.blocked


async def test_the_other_end_goes(tmp_path: Path) -> None:
    """A connection that ends is told once, to the end that did not end it."""
    async with Two(tmp_path) as two:
        assert two.there.wire
        two.there.wire.close()
        await two.here.until(lambda: two.here.reason)
        assert not two.there.reason


async def test_a_frame_that_is_too_long(tmp_path: Path) -> None:
    """A length beyond the bound ends it before any memory is taken."""
    async with Two(tmp_path) as two:
        reader, writer = await asyncio.open_unix_connection(str(two.peers.own.path))
        writer.write(struct.pack(">I", MAX_FRAME_BYTES + 1))
        assert await reader.read() == b""
        writer.close()
        assert two.there.reason == "it sent a frame that is too long"


async def test_nobody_listens(tmp_path: Path) -> None:
    """A worker that is not there is named."""
    with pytest.raises(Unreachable, match="worker 1 cannot be reached"):
        await Sockets(Neighbours(ME, tmp_path, {})).connect(ME, Peer())  # type: ignore[arg-type]
