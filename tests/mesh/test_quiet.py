"""Links on which nothing was heard lately: no session goes where it would break at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from pipe.errors import Unreachable
from pipe.mesh import asking, mesh
from pipe.mesh.directory import WorkerId
from pipe.mesh.link import MISSED_TICKS, QUIET_TICKS
from pipe.mesh.peers import Peer
from tests.mesh.workers import Workers, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipe.mesh.link import Link
    from tests.e2e.clients import KeyRing
    from tests.mesh.workers import Run


@pytest_asyncio.fixture
async def workers(
    tmp_path: Path, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Workers]:
    """Two of them, for which the test makes time pass."""
    monkeypatch.setattr(mesh, "TICK_SECONDS", 3600.0)
    async with working(tmp_path, keys) as started:
        yield started


def tick(workers: Workers, number: int, times: int = 1) -> None:
    """Let some of the time pass in which links are looked after."""
    for _ in range(times):
        workers[number].mesh._tick()  # noqa: SLF001


async def read(workers: Workers) -> Run:
    """Start a reader in the first worker, where its topic is at home then."""
    reader = await workers.run(1, "sub build")
    await workers.until(lambda: workers[1].topics)
    return reader


async def open_link(workers: Workers) -> Link:
    """Have a stream cross, and return the link that it took."""
    reader = await read(workers)
    writer = await workers.run(2, "pub build", b"first")
    assert (await writer.status(), await reader.status()) == (0, 0)
    await workers.until(lambda: not workers[1].topics)
    (end,) = workers[2].mesh._edges.values()  # noqa: SLF001
    return end.link


@pytest.mark.parametrize("heard", [True, False])
async def test_join_waits_for_a_quiet_link(workers: Workers, heard: bool) -> None:
    """It is sent once the home is heard again, or over a new link where the old one ends."""
    link = await open_link(workers)
    reader = await read(workers)
    tick(workers, 2, 1 + QUIET_TICKS)
    assert link.quiet
    asked = asyncio.Event()
    desk: Any = workers[2].desk
    enter = desk.enter

    async def entered(topic: object) -> object:
        found = await enter(topic)
        asked.set()
        return found

    desk.enter = entered
    writer = await workers.run(2, "pub build", b"new")
    await asked.wait()
    tick(workers, 2)
    assert len(workers[1].service.sessions) == 1
    if heard:
        tick(workers, 1, 2)  # it may have spoken since the last time, and so be silent in the first
        await workers.until(lambda: not link.quiet)
        tick(workers, 2)
    else:
        tick(workers, 2, MISSED_TICKS)
    assert link.over is not heard
    assert (await writer.status(), await reader.status()) == (0, 0), writer.err
    assert reader.out == b"new"


async def test_worker_that_never_answers(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes a link and says nothing cannot be reached; nothing was sent there."""
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.1)
    taken: list[asyncio.StreamWriter] = []
    third = WorkerId("", 3, 3)
    path = tmp_path / "silent"
    server = await asyncio.start_unix_server(lambda _, writer: taken.append(writer), path)
    workers.known[third] = Peer(third, path)
    with pytest.raises(Unreachable, match="worker 3 cannot be reached: try again"):
        await workers[2].mesh.reach(third)
    assert taken
    for writer in taken:
        writer.close()
    server.close()
