"""The hub among other machines."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from pipe.hub.channel import Lost
from pipe.hub.crew import Worker
from pipe.hub.nodes import STOPPED_SECONDS, Nodes
from pipe.mesh.directory import Home, WorkerId
from pipe.mesh.members import Members
from pipe.store.homes import HomeRow

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


class Table:
    """The table of homes, of which only the row of the duties is wanted."""

    def __init__(self) -> None:
        self.row: HomeRow | None = None

    async def find(self, topic: str) -> HomeRow | None:  # noqa: ARG002
        """Return it."""
        return self.row

    async def claim(self, topic: str, home: HomeRow) -> HomeRow:  # noqa: ARG002
        """Write it, if there is none."""
        self.row = self.row or home
        return self.row

    async def release(self, topic: str, home: HomeRow) -> int | None:  # noqa: ARG002
        """Remove it."""
        if self.row == home:
            self.row = None
        return None


class Crew:
    """A machine's workers, each with its way to it."""

    def __init__(self, nodes: Any, *workers: Worker) -> None:  # noqa: ANN401
        self.nodes = nodes
        self.owner = nodes._owner  # noqa: SLF001
        self.owner.workers = list(workers)
        self.owner.leader = workers[0]
        self.owner.stands_still = self.stands_still
        nodes._table = Table()  # noqa: SLF001

    def stands_still(self, worker: Worker) -> None:
        """The next worker leads."""
        worker.still = True
        others = [one for one in self.owner.workers if not one.still]
        self.owner.leader = others[0] if others else None

    async def seek(self) -> Any:  # noqa: ANN401
        """See to it that somebody has the duties, and return who has of all machines."""
        await self.nodes._seek()  # noqa: SLF001
        return self.nodes._led  # noqa: SLF001


class Ear:
    """A way to a worker, which does as it is told or stands still."""

    def __init__(self, *, still: bool = False) -> None:
        self.still = still
        self.told: list[str] = []

    async def ask(self, message: dict[str, Any], *, patience: float | None = None) -> str:
        """Tell it something, and wait no longer than one should."""
        self.told.append(message["type"])
        assert patience is not None
        if self.still:
            raise Lost
        return ""


def worker(number: int, *, still: bool = False) -> Any:  # noqa: ANN401
    """A worker that is ready."""
    nothing: Any = None
    found: Any = Worker(WorkerId("n1", number, number), nothing)
    found.channel = Ear(still=still)
    return found


async def test_worker_that_stands_still_when_it_should_lead(nodes: Any) -> None:  # noqa: ANN401
    """The duties are free again, and the next one gets them; the first shall have none."""
    first, second = worker(1, still=True), worker(2)
    crew = Crew(nodes, first, second)
    assert await crew.seek() is None
    assert nodes._table.row is None  # noqa: SLF001
    assert first.channel.told == ["lead", "lay down"]
    assert await crew.seek() == second.ident
    assert nodes._table.row == HomeRow(*second.ident)  # noqa: SLF001


async def test_only_worker_of_a_machine_stands_still(nodes: Any) -> None:  # noqa: ANN401
    """It is told to lay down its duties, which another machine may have then, and asks for none."""
    only = worker(1)
    crew = Crew(nodes, only)
    assert await crew.seek() == only.ident
    crew.stands_still(only)
    only.channel.still = True
    assert await crew.seek() is None
    assert nodes._table.row is None  # noqa: SLF001
    assert only.channel.told == ["lead", "lay down"]
    nodes._table.row = HomeRow("n2", 1, 1)  # noqa: SLF001
    only.still = only.channel.still = False
    crew.owner.leader = only
    assert await crew.seek() is None
    assert only.channel.told == ["lead", "lay down"]


async def test_machine_that_stood_still_asks_who_is_first(
    nodes: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it knows it tells no worker that it has the duties: another machine may have them."""
    now = 1000.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("pipe.hub.nodes.time", clock)
    nodes._asked = now  # noqa: SLF001
    only = worker(1)
    crew = Crew(nodes, only)
    assert await crew.seek() == only.ident
    assert nodes.leads(only.ident)
    now += STOPPED_SECONDS - 1
    assert nodes.leads(only.ident)
    now += STOPPED_SECONDS + 1
    assert not nodes.leads(only.ident)
    assert not nodes.leads(only.ident)
    assert await crew.seek() == only.ident
    assert nodes.leads(only.ident)
    now += STOPPED_SECONDS + 1
    nodes._table.row = HomeRow("n2", 1, 1)  # noqa: SLF001
    assert not nodes.leads(only.ident)
    assert await crew.seek() is None
    assert only.channel.told == ["lead", "lay down"]


async def test_watched_topic_follows_the_duties(nodes: Any) -> None:  # noqa: ANN401
    """A topic that was kept for a worker's duties is let go if another one has them, or nobody."""
    entered: list[tuple[str, WorkerId]] = []
    left: list[tuple[str, WorkerId]] = []

    async def find(_: str) -> None:
        return None

    async def enter(topic: str, asker: WorkerId, home: WorkerId) -> Home:
        entered.append((topic, asker))
        return Home(home, 1)

    async def withdraw(topic: str, home: WorkerId, asker: WorkerId) -> None:
        assert home == asker
        left.append((topic, asker))

    nodes._homes = SimpleNamespace(find=find, enter=enter, withdraw=withdraw)  # noqa: SLF001
    first, second = WorkerId("n1", 1, 1), WorkerId("n1", 2, 2)
    for ident in (first, second):
        nodes.watch(ident, "alice/t", watched=True)
        await asyncio.gather(*nodes._tasks)  # noqa: SLF001
    nodes.watch(first, "alice/t", watched=False)
    await asyncio.gather(*nodes._tasks)  # noqa: SLF001
    assert entered == [("alice/t", first), ("alice/t", second)]
    assert left == [("alice/t", first)]
    one = worker(2)
    nodes._owner.workers, nodes._led = [one], second  # noqa: SLF001
    one.still = one.channel.still = True
    await nodes._tell_to_lay_down()  # noqa: SLF001
    await asyncio.gather(*nodes._tasks)  # noqa: SLF001
    assert left == [("alice/t", first), ("alice/t", second)]


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
