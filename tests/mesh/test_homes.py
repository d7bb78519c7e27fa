"""The directory between machines: one home for a topic, and none for ever, whatever fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipe.errors import Outcome, StoreUnavailable
from pipe.mesh.directory import WorkerId
from pipe.mesh.homes import BURIED_SECONDS, JOIN_SECONDS, SharedHomes
from pipe.store import Store
from pipe.store.homes import HomeRow, HomeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.postgres import Postgres

TOPICS = ("ann/a", "ann/b")
T = TypeVar("T")
NODES = ("n1", "n2", "n3")


class FakeTable:
    """The table in memory; it can be away, before or after it has done what was asked."""

    def __init__(self) -> None:
        self.rows: dict[str, HomeRow] = {}
        self.seen: dict[str, float] = {}
        self.clock = 0.0
        self.away = False
        self.does_it_anyway = False

    async def claim(self, topic: str, home: HomeRow) -> HomeRow:
        """Find a topic's home, which is this one if it has none."""

        def work() -> HomeRow:
            row = self.rows.get(topic)
            if row is None:
                row = home._replace(joins=0)
            elif row.node != home.node:
                row = row._replace(joins=row.joins + 1)
            self.rows[topic] = row
            return row

        return self._do(work)

    async def find(self, topic: str) -> HomeRow | None:
        """Return a topic's home."""
        return self._do(lambda: self.rows.get(topic))

    async def release(self, topic: str, home: HomeRow) -> int | None:
        """Remove a topic, unless more joins were sent there."""

        def work() -> int | None:
            row = self.rows.get(topic)
            if row is None or row[:3] != home[:3]:
                return None
            if row.joins != home.joins:
                return row.joins
            del self.rows[topic]
            return None

        return self._do(work)

    async def withdraw(self, topic: str, home: HomeRow) -> None:
        """A join that was counted is not sent."""

        def work() -> None:
            row = self.rows.get(topic)
            if row and row[:3] == home[:3] and row.joins:
                self.rows[topic] = row._replace(joins=row.joins - 1)

        self._do(work)

    async def renew(self, node: str) -> None:
        """Note that a machine is there."""

        def work() -> None:
            self.seen[node] = self.clock

        self._do(work)

    async def bury(self, home: HomeRow, quiet: float) -> bool:
        """Remove all topics of a worker that is gone, if its machine is quiet."""

        def work() -> bool:
            if self.clock - self.seen.get(home.node, -1e9) < quiet:
                return False
            for topic in [topic for topic, row in self.rows.items() if row[:3] == home[:3]]:
                del self.rows[topic]
            return True

        return self._do(work)

    def bury_earlier(self, node: str, epoch: int) -> None:
        """Remove what a machine had before it was started anew."""
        for topic, row in list(self.rows.items()):
            if row.node == node and row.epoch < epoch:
                del self.rows[topic]

    def _do(self, work: Callable[[], T]) -> T:
        if self.away:
            if self.does_it_anyway:
                work()
            raise StoreUnavailable("the table is away")
        return work()


class Machine:
    """A machine with one worker: what is open there, and what has arrived."""

    def __init__(self, node: str, epoch: int, table: FakeTable, now: Callable[[], float]) -> None:
        self.worker = WorkerId(node, 1, epoch)
        self.homes = SharedHomes(node, table, now, self._usurped)
        self.started = False
        self.open: set[str] = set()
        self.arrived: dict[str, dict[WorkerId, int]] = {}

    def _usurped(self, topic: str, worker: WorkerId) -> None:
        assert worker == self.worker
        self.open.discard(topic)
        self.arrived.pop(topic, None)

    def is_open(self, topic: str, worker: WorkerId) -> bool:
        """Whether a topic exists here."""
        return worker == self.worker and topic in self.open


def run(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """Carry out what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


class Directory(RuleBasedStateMachine):
    """Joins, closes, deaths, cuts and a table that is away, in any order."""

    @initialize()
    def begin(self) -> None:
        """Start three machines."""
        self.clock = 0.0
        self.epoch = 0
        self.table = FakeTable()
        self.machines: dict[str, Machine] = {}
        self.on_the_way: list[tuple[str, WorkerId, WorkerId]] = []
        self.unnoticed = False
        for node in NODES:
            self._start(node)

    def _start(self, node: str) -> None:
        self.epoch += 1
        self.machines[node] = Machine(node, self.epoch, self.table, lambda: self.clock)
        self._start_all()

    def _start_all(self) -> None:
        """Let all start that are to: that takes the table."""
        for machine in self.machines.values():
            if not (machine.started or self.table.away):
                machine.started = True
                self.table.seen[machine.worker.node] = self.clock
                self.table.bury_earlier(machine.worker.node, machine.worker.epoch)

    @rule(node=st.sampled_from(NODES), topic=st.sampled_from(TOPICS), withdraw=st.booleans())
    def join(self, node: str, topic: str, withdraw: bool) -> None:
        """A client joins; whoever is named is who the table names."""
        machine = self.machines[node]
        if not machine.started:
            return
        try:
            home = run(machine.homes.enter(topic, machine.worker, machine.worker)).worker
        except StoreUnavailable:
            assert self.table.away
            return
        assert self.table.rows[topic][:3] == home
        if withdraw:
            run(machine.homes.withdraw(topic, home, machine.worker))
        else:
            self.on_the_way.append((topic, home, machine.worker))

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """A join comes to its home, and opens the topic if need be."""
        topic, home, asker = data.draw(st.sampled_from(self.on_the_way))
        self.on_the_way.remove((topic, home, asker))
        machine = self.machines[home.node]
        if machine.worker == home:
            machine.open.add(topic)
            counts = machine.arrived.setdefault(topic, {})
            counts[asker] = counts.get(asker, 0) + 1

    @rule(node=st.sampled_from(NODES), topic=st.sampled_from(TOPICS))
    def close(self, node: str, topic: str) -> None:
        """A topic's last member leaves."""
        machine = self.machines[node]
        if topic in machine.open:
            machine.open.remove(topic)
            counts = machine.arrived.pop(topic, {})
            run(machine.homes.closed(topic, machine.worker, counts))

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A join from another machine gets lost; one on the same machine is never."""
        join = data.draw(st.sampled_from(self.on_the_way))
        if join[1].node != join[2].node:
            self.on_the_way.remove(join)

    @rule(node=st.sampled_from(NODES))
    def die(self, node: str) -> None:
        """A machine dies and is started anew; the others see it."""
        dead = self.machines[node].worker
        self._cut(lambda worker: worker == dead)
        self._start(node)
        for other in self.machines.values():
            run(other.homes.died(dead))

    @rule(one=st.sampled_from(NODES), other=st.sampled_from(NODES))
    def cut(self, one: str, other: str) -> None:
        """Two machines do not see each other for a while, and both are alive."""
        if one == other:
            return
        pair = self.machines[one], self.machines[other]
        workers = {machine.worker for machine in pair}
        self.on_the_way = [join for join in self.on_the_way if {join[1], join[2]} != workers]
        run(pair[0].homes.died(pair[1].worker))
        run(pair[1].homes.died(pair[0].worker))
        self.unnoticed = True

    def _cut(self, concerns: Callable[[WorkerId], bool]) -> None:
        self.on_the_way = [
            join for join in self.on_the_way if not (concerns(join[1]) or concerns(join[2]))
        ]

    @rule(away=st.booleans(), anyway=st.booleans())
    def table_away(self, away: bool, anyway: bool) -> None:
        """The table goes or comes."""
        self.table.away, self.table.does_it_anyway = away, anyway
        self._start_all()

    @rule(seconds=st.sampled_from([JOIN_SECONDS + 1, BURIED_SECONDS + 1]))
    def wait(self, seconds: float) -> None:
        """Time passes, far more than a join may take from one machine to another."""
        self.clock += seconds
        self.table.clock = self.clock
        self.on_the_way = [join for join in self.on_the_way if join[1].node == join[2].node]

    @rule(one=st.sampled_from(NODES), other=st.sampled_from(NODES))
    def heal(self, one: str, other: str) -> None:
        """Two machines see each other."""
        self.machines[one].homes.appeared(self.machines[other].worker)
        self.machines[other].homes.appeared(self.machines[one].worker)

    @rule()
    def tend(self) -> None:
        """All make up for what was lost."""
        for machine in self.machines.values():
            run(machine.homes.tend(machine.is_open))
        if not self.table.away:
            self.unnoticed = False

    @invariant()
    def one_home(self) -> None:
        """No topic exists at two homes, unless two machines were cut apart and have not looked."""
        if not self.unnoticed:
            for topic in TOPICS:
                assert sum(topic in machine.open for machine in self.machines.values()) <= 1

    def teardown(self) -> None:
        """In the end nothing is left."""
        self.table.away = False
        self._start_all()
        while self.on_the_way:
            topic, home, asker = self.on_the_way.pop()
            machine = self.machines[home.node]
            if machine.worker == home:
                machine.open.add(topic)
                counts = machine.arrived.setdefault(topic, {})
                counts[asker] = counts.get(asker, 0) + 1
        self.tend()
        self.one_home()
        for one in NODES:
            for other in NODES:
                self.heal(one, other)
        for node in NODES:
            for topic in TOPICS:
                self.close(node, topic)
        for _ in range(3):
            self.wait(BURIED_SECONDS + 1)
            self.tend()
        assert not self.table.rows
        assert not any(machine.homes.topics for machine in self.machines.values())


TestDirectory = Directory.TestCase
TestDirectory.settings = settings(max_examples=60, stateful_step_count=30)


@pytest.fixture
def homes_url(postgres: Postgres) -> str:
    """An empty database."""
    return postgres.new_database()


A, B = WorkerId("n1", 1, 10), WorkerId("n2", 1, 20)


def nobody(_topic: str, _worker: WorkerId) -> None:
    """No topic is lost to another machine."""
    raise AssertionError("usurped")


async def test_two_machines_at_once(homes_url: str) -> None:
    """Joins from two machines at once are all sent to one home, and each is counted."""
    async with await Store.open(homes_url) as one, await Store.open(homes_url) as other:
        here = SharedHomes("n1", HomeStore(one.database), lambda: 0.0, nobody)
        there = SharedHomes("n2", HomeStore(other.database), lambda: 0.0, nobody)
        found = await asyncio.gather(
            *(here.enter("ann/a", A, A) for _ in range(20)),
            *(there.enter("ann/a", B, B) for _ in range(20)),
        )
        assert len({home.worker for home in found}) == 1
        owner = here if found[0].worker == A else there
        await owner.closed("ann/a", found[0].worker, {A: 20, B: 19})
        assert await here.find("ann/a") == found[0].worker
        await owner.closed("ann/a", found[0].worker, {B: 1})
        left = {A: 0, B: 0}
        await owner.closed("ann/a", found[0].worker, left)
        assert await there.find("ann/a") is None


async def test_rows_of_the_dead_go_by_epoch(homes_url: str, postgres: Postgres) -> None:
    """Who sees a worker gone removes its topics once its machine is quiet, and no later one's."""
    async with await Store.open(homes_url) as store:
        table = HomeStore(store.database)
        later = B._replace(epoch=21)
        await table.claim("ann/a", HomeRow(*B))
        await table.claim("ann/b", HomeRow(*later))
        homes = SharedHomes("n1", table, lambda: 0.0, nobody)
        await table.renew("n2")
        await homes.died(B)
        assert await homes.find("ann/a") == B, "its machine is there, in the database's eyes"
        postgres.execute("UPDATE nodes SET seen = seen - 20", homes_url.split("/")[3].split("?")[0])
        await homes.tend(lambda _topic, _worker: False)
        assert await homes.find("ann/a") is None
        assert await homes.find("ann/b") == later
        assert await table.bury_earlier("n2", 22) == 1


async def test_a_database_that_is_away() -> None:
    """What is at home here can be joined, anything else is refused with the reason."""
    table = FakeTable()
    homes = SharedHomes("n1", table, lambda: 0.0, nobody)
    await homes.enter("ann/a", A, A)
    table.away = True
    assert (await homes.enter("ann/a", A, A)).worker == A
    with pytest.raises(StoreUnavailable, match="away") as refused:
        await homes.enter("ann/b", A, A)
    assert refused.value.outcome is Outcome.UNAVAILABLE


class SlowTable(FakeTable):
    """One that does what it is asked, and is slow to say so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()

    async def claim(self, topic: str, home: HomeRow) -> HomeRow:
        """Find a topic's home."""
        return await self._slowly(super().claim(topic, home))

    async def release(self, topic: str, home: HomeRow) -> int | None:
        """Remove a topic."""
        return await self._slowly(super().release(topic, home))

    async def _slowly(self, work: Coroutine[Any, Any, T]) -> T:
        answer = await work
        self.asked.set()
        await self.answers.wait()
        return answer


async def test_home_that_dies_while_the_table_is_asked() -> None:
    """A join that asks just then gets an answer, and once it is taken back nothing is left."""
    table = SlowTable()
    homes = SharedHomes("n1", table, lambda: 0.0, nobody)
    table.away = True
    with pytest.raises(StoreUnavailable):
        await homes.enter("ann/a", A, A)
    table.away = False
    join = asyncio.ensure_future(homes.enter("ann/a", A, A))
    await table.asked.wait()
    await homes.died(A)
    table.answers.set()
    assert (await join).worker == A
    await homes.withdraw("ann/a", A, A)
    assert not homes.topics
    assert not table.rows


async def test_home_that_dies_while_its_topic_is_given_up() -> None:
    """What is gone already needs not be forgotten again."""
    table = SlowTable()
    table.answers.set()
    homes = SharedHomes("n1", table, lambda: 0.0, nobody)
    await homes.enter("ann/a", A, A)
    table.asked.clear()
    table.answers.clear()
    closed = asyncio.ensure_future(homes.closed("ann/a", A, {A: 1}))
    await table.asked.wait()
    await homes.died(A)
    table.answers.set()
    await closed
    assert not homes.topics


async def test_databases_tell_themselves_apart(postgres: Postgres) -> None:
    """Two databases have two identifiers, and each keeps its own."""
    urls = postgres.new_database(), postgres.new_database()
    found = []
    for url in (*urls, urls[0]):
        async with await Store.open(url) as store:
            found.append(await HomeStore(store.database).database_id())
    assert found[0] == found[2] != found[1]
