"""A worker that stops waits for streams that move in other workers, and for nothing else there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pipe.session.draining import Draining
from tests.e2e.processes import DEADLINE
from tests.mesh.workers import on_topic

if TYPE_CHECKING:
    from pipe.rights.live import LiveSession
    from pipe.stream.topics import Member
    from tests.mesh.workers import Workers

PATIENCE = 3.0


async def only_session(workers: Workers) -> LiveSession:
    """The one of a client of the second worker, whose home has told how its stream moves.

    Here a worker is one of its own neighbours, so that it has a part of a reader on a pattern too.
    """
    async with asyncio.timeout(DEADLINE):
        while True:
            await workers[2].mesh.look_at_streams()
            sessions: list[Any] = list(workers[2].service.sessions)
            (session,) = [one for one in sessions if not one.partial]
            live: LiveSession = session
            if live.abroad and live.abroad.is_told:
                return live


def members_at_home(workers: Workers) -> list[Member]:
    """The members of the first worker's topic."""
    router = workers[1].service.router
    (name,) = router.names()
    return list(router.members(name))


def bytes_at_home(workers: Workers) -> int:
    """What they have moved, as it knows by now."""
    return sum(one.received_bytes + one.written_bytes for one in members_at_home(workers))


@pytest.mark.parametrize("name", ["build", "'b*'"])
async def test_reader_elsewhere(workers: Workers, name: str) -> None:
    """One that stays and waits holds up no stop, and one in mid-stream does until it is still."""
    keeper = await workers.run(1, "sub -k build")
    await on_topic(workers, 1, 1)
    reader = await workers.run(2, f"sub -k {name}")
    await workers.until(lambda: len(members_at_home(workers)) == 2)
    draining = Draining(workers[2].service.router, PATIENCE)
    assert not draining.may_finish(await only_session(workers), 0.0)

    pub = await workers.run(1, "pub build", None)
    await pub.write(b"a")
    assert await reader.read(1) == b"a"
    await workers.until(lambda: bytes_at_home(workers) == 3)
    assert draining.may_finish(await only_session(workers), 1.0)
    assert not draining.may_finish(await only_session(workers), 1.0 + PATIENCE)
    await pub.write(b"b")
    assert await reader.read(1) == b"b"
    assert await keeper.read(2) == b"ab"
    await workers.until(lambda: bytes_at_home(workers) == 6)
    assert draining.may_finish(await only_session(workers), 1.0 + PATIENCE)


async def test_publisher_elsewhere(workers: Workers) -> None:
    """One that waits for a reader holds up no stop, and one that has begun does."""
    first = await workers.run(1, "pub build", None)
    await on_topic(workers, 1, 1)
    second = await workers.run(2, "pub build", None)
    await on_topic(workers, 1, 2)
    draining = Draining(workers[2].service.router, PATIENCE)
    assert not draining.may_finish(await only_session(workers), 0.0)
    reader = await workers.run(1, "sub build")
    await on_topic(workers, 1, 3)
    await second.write(b"a")
    assert await reader.read(1) == b"a"
    assert draining.may_finish(await only_session(workers), 0.0)
    first.end()
