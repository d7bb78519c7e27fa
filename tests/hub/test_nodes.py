"""The hub among other machines."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from pipe.hub.nodes import Nodes
from pipe.mesh.directory import WorkerId
from pipe.mesh.members import Members

if TYPE_CHECKING:
    import pytest


@pytest_asyncio.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
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
    hubs: Any = SimpleNamespace(me=WorkerId("n1", 0, 1), members=Members())
    return Nodes(configuration, nothing, nothing, hubs, owner)


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
