"""Limits of one service whose hubs are on several machines."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipe.errors import QuotaExceeded
from pipe.hub import exchange as module
from pipe.hub.counts import Counts
from pipe.hub.exchange import Exchange
from pipe.hub.far import FarGate
from pipe.hub.reception import Reception
from pipe.hub.worker import WorkerApp
from pipe.limits.gate import Visit
from pipe.limits.penalties import Offence
from pipe.mesh.directory import WorkerId
from pipe.mesh.ledger import About
from pipe.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LIMITS = Settings(
    max_connections_per_user=2,
    claims_per_day=1,
    penalty_refused=10.0,
    penalty_min=15.0,
)
ADDRESS = "192.0.2.1"


class Worker:
    """A worker that keeps what it is told."""

    is_ready = True

    def __init__(self, number: int, news: asyncio.Event) -> None:
        self.ident = WorkerId("", number, 1)
        self.told: list[dict[str, Any]] = []
        self.channel: Any = SimpleNamespace(send=self._hear)
        self._news = news

    def _hear(self, message: dict[str, Any]) -> None:
        self.told.append(message)
        self._news.set()

    def gate(self) -> FarGate:
        """Its gate, which was told the same."""
        end: Any = None
        app: Any = WorkerApp(LIMITS, {"ident": self.ident, "link": "link"}, end)
        app._loop = SimpleNamespace(time=lambda: 0.0)  # noqa: SLF001
        app._gate = FarGate(LIMITS, self.channel)  # noqa: SLF001
        for message in self.told:
            if message["type"] in {"offences", "penalties"}:
                app._receive(json.loads(json.dumps(message)), None)  # noqa: SLF001
        gate: FarGate = app._gate  # noqa: SLF001
        return gate

    @property
    def others(self) -> dict[str, int]:
        """What it knows of the others."""
        found: dict[str, int] = {}
        for message in self.told:
            found |= message.get("counts", {})
        return {key: count for key, count in found.items() if count}


class Node:
    """A hub and a worker on one machine, and what carries its messages."""

    def __init__(self, name: str, net: list[Node], news: asyncio.Event) -> None:
        self.me = WorkerId(name, 0, 1)
        self.news = news
        self.worker, self.other = Worker(1, news), Worker(2, news)
        crew: Any = SimpleNamespace(workers={1: self.worker, 2: self.other})
        self.counts = Counts(crew)
        self.reception = self.counts.reception = Reception(
            LIMITS, lambda _: [], lambda _: None, self.counts.count, self.counts.charged
        )
        self.net = net
        self.deaf = False
        self.exchange = self.counts.exchange = Exchange(
            self.me, self, self.counts, self.reception, lambda: About("1", 0.0, 1)
        )

    def tell(self, data: bytes) -> None:
        """Tell all that can hear."""
        for node in self.net:
            if node is not self and not node.deaf:
                node.exchange.heard(self.me, data)
        self.news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once something is so; whenever somebody is told something it is looked at."""
        while not condition():
            self.news.clear()
            await self.news.wait()

    async def may_claim(self) -> bool:
        """Whether the address may claim a name."""
        return await self.reception.answer_claim({"address": ADDRESS, "what": "may claim"})

    def charge(self) -> None:
        """Have a request to the first worker offend."""
        self.reception.charge(self.worker, ADDRESS, "REFUSED")  # type: ignore[arg-type]

    def log_in(self, user: str) -> Visit:
        """Have a user log in."""
        visit = self.reception.gate.enter(ADDRESS, 0.0)
        assert isinstance(visit, Visit)
        self.reception.gate.admit(visit, user)
        return visit


@pytest.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Node, Node]]:
    """Two that see each other."""
    for name in ("NEWS_SECONDS", "BEAT_SECONDS"):
        monkeypatch.setattr(module, name, 0.005)
    net: list[Node] = []
    news = asyncio.Event()
    net += [Node("n1", net, news), Node("n2", net, news)]
    first, second = net
    first.exchange.appeared(second.me)
    second.exchange.appeared(first.me)
    yield first, second
    for node in net:
        node.exchange.close()


def is_refused_at(worker: Worker) -> bool:
    """Whether a worker refuses whom a proxy brings."""
    return worker.gate().refuses(ADDRESS, 0.0)


def is_refused(node: Node, user: str) -> bool:
    """Whether a user has as many connections as allowed; one that gets in leaves again."""
    visit = node.reception.gate.enter(ADDRESS, 0.0)
    assert isinstance(visit, Visit)
    try:
        node.reception.gate.admit(visit, user)
    except QuotaExceeded:
        return True
    finally:
        visit.leave(None, 0.0)
    return False


async def test_quota_of_all_machines(nodes: tuple[Node, Node]) -> None:
    """What a user has on all machines counts on each, and no longer once it is given back."""
    first, second = nodes
    held = [node.log_in("alice") for node in nodes]
    for node in nodes:
        await node.until(partial(is_refused, node, "alice"))
        assert not is_refused(node, "bob")
    held[0].leave(None, 0.0)
    await second.until(lambda: not is_refused(second, "alice"))
    assert not is_refused(first, "alice")


@pytest.mark.parametrize("leaves", [False, True])
async def test_node_takes_its_counts_along(nodes: tuple[Node, Node], leaves: bool) -> None:
    """What a node had is free once it is gone; it is missed, unless it has said that it leaves."""
    first, second = nodes
    for _ in range(2):
        first.log_in("alice")
    await second.until(lambda: is_refused(second, "alice"))
    if leaves:
        first.exchange.close()
    else:
        second.exchange.vanished(first.me)
    assert set(second.exchange.lost) == (set() if leaves else {"n1"})
    await second.until(lambda: not is_refused(second, "alice"))
    if leaves:
        second.exchange.appeared(first.me)  # something else has changed before it is seen no more
    second.exchange.vanished(first.me)
    assert set(second.exchange.lost) == (set() if leaves else {"n1"})
    if not leaves:
        second.exchange.appeared(first.me)
        assert not second.exchange.lost
        await second.until(lambda: is_refused(second, "alice"))


async def test_node_that_is_started_anew_is_not_lost(nodes: tuple[Node, Node]) -> None:
    """It may be seen before the one before it is missed."""
    first, second = nodes
    second.exchange.appeared(first.me._replace(epoch=2))
    second.exchange.vanished(first.me)
    assert not second.exchange.lost


async def test_what_was_lost_is_made_up_for(nodes: tuple[Node, Node]) -> None:
    """A node that has heard nothing for a while knows all soon after, also of who is charged."""
    first, second = nodes
    second.deaf = True
    for _ in range(2):
        first.log_in("alice")
        first.charge()
    await second.until(lambda: first.exchange.neighbours[second.me].heard)
    assert not second.reception.gate.refuses(ADDRESS, 0.0)
    second.deaf = False
    await second.until(lambda: second.reception.gate.refuses(ADDRESS, 0.0))
    await second.until(lambda: "connections/USER/alice" in second.worker.others)


async def test_workers_hear_of_it(nodes: tuple[Node, Node]) -> None:
    """A worker is told what processes of other machines have, and who offends there."""
    first, second = nodes
    first.counts.report("1.1", {"sessions/USER/alice": 2, "rate/alice": 1})
    await second.until(lambda: second.worker.others == {"sessions/USER/alice": 2, "rate/alice": 1})
    assert not first.worker.others
    first.counts.went(first.worker)  # type: ignore[arg-type]
    await second.until(lambda: not second.worker.others)
    first.charge()
    told = {"type": "offences", "charges": [(ADDRESS, "REFUSED", 1)]}
    await second.until(lambda: told in second.worker.told)


async def test_offences_on_all_machines(nodes: tuple[Node, Node]) -> None:
    """An address that fails once on each machine is refused on both, and by who is left."""
    for node in nodes:
        node.charge()
    for node in nodes:
        await node.until(partial(node.reception.gate.refuses, ADDRESS, 0.0))
    first, second = nodes
    second.exchange.vanished(first.me)
    assert second.reception.gate.refuses(ADDRESS, 0.0)


async def test_worker_behind_a_proxy_hears_of_offences(nodes: tuple[Node, Node]) -> None:
    """Whom a proxy brings is refused where HTTP is served, whoever was offended by SSH."""
    first, second = nodes
    for _ in range(2):
        visit = first.reception.gate.enter(ADDRESS, 0.0)
        assert isinstance(visit, Visit)
        visit.leave(Offence.REFUSED, 0.0)
    for worker in (first.worker, first.other, second.worker, second.other):
        await first.until(partial(is_refused_at, worker))


async def test_worker_is_not_told_its_own_charges(nodes: tuple[Node, Node]) -> None:
    """It has charged an address already, which is charged once; the other one hears of it."""
    first, _ = nodes
    first.charge()
    told = {"type": "offences", "charges": [(ADDRESS, "REFUSED", 1)]}
    await first.until(lambda: told in first.other.told)
    assert told not in first.worker.told


async def test_new_worker_knows_who_is_refused(nodes: tuple[Node, Node]) -> None:
    """It has what the one before it knew, or the hub has heard of another machine."""
    first, second = nodes
    second.deaf = True
    for _ in range(2):
        first.charge()
    new = Worker(3, first.news)
    first.counts.came(new)  # type: ignore[arg-type]
    assert new.gate().refuses(ADDRESS, 0.0)
    await second.until(lambda: first.exchange.neighbours[second.me].heard)
    assert not second.worker.gate().refuses(ADDRESS, 0.0)
    second.deaf = False
    await second.until(lambda: second.worker.gate().refuses(ADDRESS, 0.0))


async def test_claims_on_all_machines(nodes: tuple[Node, Node]) -> None:
    """A name that is claimed on one machine counts on the other."""
    first, second = nodes
    assert await first.reception.answer_claim({"address": ADDRESS, "what": "claims"})
    while await second.may_claim():
        second.news.clear()
        await second.news.wait()
    first.reception.give_back_claim(ADDRESS)
    while not await second.may_claim():
        second.news.clear()
        await second.news.wait()


async def test_stranger_and_nonsense(nodes: tuple[Node, Node]) -> None:
    """Of a node that is not there nothing counts, and what cannot be read does no harm."""
    first, _ = nodes
    first.exchange.heard(
        WorkerId("n3", 0, 1), b'{"number":1,"counts":{"connections/USER/alice":9}}'
    )
    first.exchange.heard(WorkerId("n2", 0, 1), b"nonsense")
    first.exchange.heard(WorkerId("n2", 0, 1), b'{"number":1,"charges":[["192.0.2.1","LATER",1]]}')
    assert not is_refused(first, "alice")
    assert not first.reception.gate.refuses(ADDRESS, 0.0)
