"""The directory: one home for a name, whatever comes in whatever order, and none that stays."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipe.hub.homes import FULL, SLACK, Homes, Watched, with_crowd
from pipe.mesh.directory import Home, WorkerId

TOPICS = ("a", "b")


def worker(number: int, epoch: int = 1) -> WorkerId:
    """One of them."""
    return WorkerId("", number, epoch)


def test_idle_asker_keeps_its_topic() -> None:
    """A topic is at home where it was asked for, unless that worker is busier than the others."""
    homes = Homes()
    busy = {worker(1): 0.5, worker(2): 0.5 - SLACK, worker(3): 0.9}
    assert homes.enter("a", worker(1), busy) == Home(worker(1), 1)
    assert homes.enter("b", worker(3), busy) == Home(worker(2), 1)
    assert homes.enter("b", worker(1), busy) == Home(worker(2), 2)


def test_who_leaves_gets_no_new_topic() -> None:
    """A worker that is not among those that may have one asks for another."""
    homes = Homes()
    assert homes.enter("a", worker(1), {worker(2): 0.9}).worker == worker(2)


def test_join_on_its_way_keeps_the_home() -> None:
    """A topic that closes while a join is on its way to it stays where it is."""
    homes = Homes()
    for asker in (1, 2):
        homes.enter("a", worker(asker), {worker(1): 0.0})
    homes.closed("a", worker(1), {worker(1): 1})
    assert homes.find("a") == worker(1)
    homes.closed("a", worker(1), {worker(2): 1})
    assert homes.find("a") is None


def test_join_that_was_not_sent() -> None:
    """A client that leaves before its join is sent leaves nothing behind."""
    homes = Homes()
    homes.enter("a", worker(2), {worker(1): 0.0})
    homes.withdraw("a", worker(1), worker(2))
    assert len(homes) == 0


class HomesMachine(RuleBasedStateMachine):
    """Workers that join, close and die, with messages that are late, and a model of what is open.

    A worker sends joins to another in order, and tells the hub in order; nothing else has one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.homes = Homes()
        self.epoch = 1
        self.alive = {worker(number) for number in (1, 2, 3)}
        self.sent: dict[tuple[WorkerId, WorkerId], deque[str]] = {}  # joins, by from and to
        self.open: dict[tuple[WorkerId, str], Counter[WorkerId]] = {}  # joins that have arrived
        self.told: dict[WorkerId, deque[tuple[str, Counter[WorkerId]]]] = {}  # closes
        self.unsettled: set[tuple[WorkerId, WorkerId]] = set()

    def pick(self, number: int) -> WorkerId:
        """One of those that live."""
        return sorted(self.alive)[number % len(self.alive)]

    @rule(topic=st.sampled_from(TOPICS), number=st.integers(0, 2), load=st.floats(0, 1))
    def enter(self, topic: str, number: int, load: float) -> None:
        """A client wants to join, and its join is sent."""
        asker = self.pick(number)
        busy = dict.fromkeys(self.alive, 0.5) | {asker: load}
        home = self.homes.enter(topic, asker, busy).worker
        assert home in self.alive
        self.sent.setdefault((asker, home), deque()).append(topic)

    @rule(topic=st.sampled_from(TOPICS), number=st.integers(0, 2))
    def enter_and_withdraw(self, topic: str, number: int) -> None:
        """A client wants to join, and leaves before it can."""
        asker = self.pick(number)
        home = self.homes.enter(topic, asker, dict.fromkeys(self.alive, 0.0)).worker
        self.homes.withdraw(topic, home, asker)

    @precondition(lambda self: any(self.sent.values()))
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """A join comes to its home, and opens the topic there."""
        link = data.draw(st.sampled_from(sorted(key for key, all_ in self.sent.items() if all_)))
        topic = self.sent[link].popleft()
        asker, home = link
        self.open.setdefault((home, topic), Counter())[asker] += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """The last member of a topic leaves; the hub hears of it later."""
        home, topic = data.draw(st.sampled_from(sorted(self.open)))
        self.told.setdefault(home, deque()).append((topic, self.open.pop((home, topic))))

    @precondition(lambda self: any(self.told.values()))
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        """The hub hears of a close."""
        home = data.draw(st.sampled_from(sorted(key for key, all_ in self.told.items() if all_)))
        topic, joins = self.told[home].popleft()
        self.homes.closed(topic, home, joins)

    @rule(number=st.integers(0, 2), again=st.booleans())
    def die(self, number: int, again: bool) -> None:
        """A worker dies with its topics; what it sent is still in the sockets of the others."""
        dead = self.pick(number)
        self.alive.discard(dead)
        for key in [key for key in self.open if key[0] == dead]:
            del self.open[key]
        self.told.pop(dead, None)
        for link in [link for link in self.sent if link[1] == dead]:
            del self.sent[link]
        self.unsettled = {pair for pair in self.unsettled if pair[0] != dead}
        self.unsettled |= {(home, dead) for home in self.homes.died(dead)}
        if again or not self.alive:
            self.epoch += 1
            self.alive.add(worker(dead.number, self.epoch))

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A home has read all that a dead worker sent; the hub hears so after what came before."""
        home, dead = pair = data.draw(st.sampled_from(sorted(self.unsettled)))
        while self.sent.get((dead, home)):
            topic = self.sent[dead, home].popleft()
            self.open.setdefault((home, topic), Counter())[dead] += 1
        while self.told.get(home):
            topic, joins = self.told[home].popleft()
            self.homes.closed(topic, home, joins)
        arrived = {topic: joins[dead] for (at, topic), joins in self.open.items() if at == home}
        self.homes.settle(home, dead, arrived)
        self.unsettled.discard(pair)

    @invariant()
    def one_home(self) -> None:
        """A topic that is open, or that a join is on its way to, is where the directory says."""
        for home, topic in self.open:
            assert self.homes.find(topic) == home
        for (_, home), topics in self.sent.items():
            for topic in topics:
                assert self.homes.find(topic) == home

    def teardown(self) -> None:
        """Once all have come, and all is closed and told, nothing is left."""
        for (asker, home), topics in self.sent.items():
            for topic in topics:
                self.open.setdefault((home, topic), Counter())[asker] += 1
        for (home, topic), joins in self.open.items():
            self.told.setdefault(home, deque()).append((topic, joins))
        for home, all_told in self.told.items():
            for topic, joins in all_told:
                self.homes.closed(topic, home, joins)
        for home, dead in self.unsettled:
            self.homes.settle(home, dead, {})
        assert len(self.homes) == 0


TestHomes = HomesMachine.TestCase


def test_watched_topics_are_known_until_another_worker_watches() -> None:
    """What a dead worker watched counts until another has taken its place; then only that does."""
    watched = Watched()
    watched.note(worker(1), "a", watched=True)
    watched.note(worker(1), "b", watched=True)
    watched.note(worker(1), "b", watched=False)
    assert ("a" in watched, "b" in watched) == (True, False)
    watched.note(worker(2), "c", watched=True)
    watched.keep([worker(2)])
    assert ("a" in watched, "c" in watched) == (False, True)


@pytest.mark.parametrize(
    ("busy", "crowded"),
    [
        ({1: FULL, 2: 0.1}, True),
        ({1: FULL, 2: FULL}, False),
        ({1: FULL - 0.01, 2: 0.0}, False),
        ({2: 0.0}, False),  # it is on another machine, or leaves
        ({1: FULL}, False),
    ],
)
def test_crowd(busy: dict[int, float], crowded: bool) -> None:
    """A home is crowded if it has about all that a core can do, and whoever asks has less."""
    home = with_crowd(
        Home(worker(1), 3), worker(2), {worker(number): used for number, used in busy.items()}
    )
    assert home == (worker(1), 3, crowded)
