"""Machines that see each other's workers come and go, by real Zenoh peers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pipe.errors import StartError
from pipe.language.places import Place
from pipe.mesh.directory import WorkerId
from pipe.mesh.peer import ZenohPeer

from .kinds import HOST, IDENTITY, free_port, node_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST, SECOND = WorkerId("n1", 0, 1), WorkerId("n2", 0, 2)
WORKER, PLACE = WorkerId("n1", 1, 3), Place("::1", 2224)


async def test_who_is_there(tmp_path: Path) -> None:
    """Who joins sees whom there is, and where; who is there sees who joins, and both who goes."""
    places = [f"{HOST}:{free_port()}" for _ in range(2)]
    first = await ZenohPeer.open(FIRST, IDENTITY, node_files(tmp_path, "n1"), places[0])
    await first.appear()
    await first.appear(WORKER, PLACE)
    second = await ZenohPeer.open(
        SECOND, IDENTITY, node_files(tmp_path, "n2"), places[1], places[:1]
    )
    await second.check()
    await second.appear()
    await until(first, lambda: SECOND in first.members.others)
    await until(second, lambda: second.members.others == {FIRST, WORKER})
    assert second.members.places[WORKER] == PLACE
    await first.vanish(WORKER)
    await until(second, lambda: second.members.others == {FIRST})
    await second.close()
    await until(first, lambda: SECOND not in first.members.others)
    await first.close()


async def test_what_is_told(tmp_path: Path) -> None:
    """The others hear it in order, and from whom; who tells does not."""
    places = [f"{HOST}:{free_port()}" for _ in range(2)]
    first = await ZenohPeer.open(FIRST, IDENTITY, node_files(tmp_path, "n1"), places[0])
    second = await ZenohPeer.open(
        SECOND, IDENTITY, node_files(tmp_path, "n2"), places[1], places[:1]
    )
    told: asyncio.Queue[tuple[WorkerId, bytes]] = asyncio.Queue()
    for peer in (first, second):
        peer.listen(lambda worker, data: told.put_nowait((worker, data)))
    await second.appear()
    await until(first, lambda: SECOND in first.members.others)
    large = bytes(1 << 20)
    for data in (b"1", large, b"2"):
        first.tell(data, whole=data is large)
    assert [await told.get() for _ in range(3)] == [(FIRST, b"1"), (FIRST, large), (FIRST, b"2")]
    await first.close()
    await second.close()
    assert told.empty()


async def test_two_nodes_of_one_name(tmp_path: Path) -> None:
    """Who joins under the name of a node that is there does not start, and says how to mend it."""
    places = [f"{HOST}:{free_port()}" for _ in range(2)]
    files = node_files(tmp_path, "n1")
    first = await ZenohPeer.open(FIRST, IDENTITY, files, places[0])
    second = await ZenohPeer.open(FIRST._replace(epoch=2), IDENTITY, files, places[1], places[:1])
    with pytest.raises(StartError, match="there is a node n1 already: give this one another"):
        await second.check()
    await second.close()
    await first.close()


async def until(peer: ZenohPeer, condition: Callable[[], object]) -> None:
    """Return once something is so; each time that the peer's members change it is looked at."""
    changed = asyncio.Event()
    peer.members.follow(changed.set, lambda _: None)
    while not condition():
        changed.clear()
        await changed.wait()
