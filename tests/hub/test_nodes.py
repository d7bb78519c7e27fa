"""The hub among other machines."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from pipe.hub.crew import Worker
from pipe.hub.nodes import Nodes
from pipe.mesh.directory import WorkerId
from pipe.mesh.members import Members


class Peer:
    """A machine's peer of the mesh, which is slow to show a worker."""

    me = WorkerId("n1", 0, 1)

    def __init__(self) -> None:
        self.members = Members()
        self.asked = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.shown: set[WorkerId] = set()

    async def appear(self, worker: WorkerId, place: object) -> None:  # noqa: ARG002
        """Show it."""
        self.asked.set()
        await self.goes_on.wait()
        self.shown.add(worker)

    async def vanish(self, worker: WorkerId) -> None:
        """Show it no more."""
        self.shown.discard(worker)


@pytest.fixture
def peer() -> Peer:
    """This machine's."""
    return Peer()


@pytest_asyncio.fixture
async def nodes(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    """The other machines, as a hub without workers sees them."""
    monkeypatch.setattr("pipe.hub.nodes.ends_of", lambda _: {"node": 0.0})
    nothing: Any = None
    configuration: Any = SimpleNamespace(node="n1", listen=("127.0.0.1", 7000), files=None)
    owner: Any = SimpleNamespace(
        leader=None,
        tell_of_peers=lambda: None,
        workers=[],
        crew=SimpleNamespace(serving=[]),
        counts=SimpleNamespace(reception=None),
    )
    return Nodes(configuration, nothing, nothing, cast("Any", peer), owner)


async def test_worker_that_dies_at_once_is_not_seen(nodes: Any, peer: Peer) -> None:  # noqa: ANN401
    """Others do not see a worker for ever that is gone before it was shown."""
    nothing: Any = None
    worker = Worker(WorkerId("n1", 1, 1), nothing)
    shown = asyncio.ensure_future(nodes._appear(worker))  # noqa: SLF001
    await peer.asked.wait()
    worker.ended.set()
    await peer.vanish(worker.ident)
    peer.goes_on.set()
    await shown
    assert not peer.shown


async def test_machine_is_tended_beside_a_worker_that_stands_still(nodes: Any) -> None:  # noqa: ANN401
    """Others hear of a machine although a worker does not answer who should take the duties."""
    tended: list[object] = []
    never = asyncio.Event()

    async def tend(is_open: object) -> None:
        tended.append(is_open)

    async def find_first(_: object) -> None:
        await never.wait()

    nodes._homes = SimpleNamespace(tend=tend)  # noqa: SLF001
    nodes._find_first = find_first  # noqa: SLF001
    for _ in range(3):
        await nodes._tend_once()  # noqa: SLF001
        await asyncio.sleep(0)
    assert len(tended) == 3
    assert len(nodes._tasks) == 1  # noqa: SLF001
    never.set()
    await asyncio.gather(*nodes._tasks)  # noqa: SLF001
