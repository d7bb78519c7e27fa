"""Topics come and go, patterns take them in, statistics count them."""

from __future__ import annotations

import pytest

from pipe.errors import Outcome
from pipe.language.names import TopicName
from pipe.language.requests import OnSlow
from pipe.stream.ports import Mode, Receipt
from pipe.stream.router import Router
from pipe.stream.topics import Member, Topic
from tests.fakes import (
    ALL,
    FULL,
    NAME,
    OTHER,
    FakeSink,
    pattern_reader,
    pipe,
    publisher,
    subscriber,
    topics,
)


def test_topic_exists_while_somebody_is_on_it() -> None:
    """The first member opens it, the last closes it, and the owner of the router is told."""
    closed: list[TopicName] = []
    router = Router(closed.append)
    assert NAME not in router
    sinks = [subscriber(router, NAME) for _ in range(2)]
    pattern_reader(router)
    assert NAME in router
    for sink in sinks:
        assert not closed
        sink.vanish()
    assert (NAME in router, closed) == (False, [NAME])
    assert router.members(NAME) == ()


def test_topics_under_many_patterns_copy_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that comes and goes copies the list of its readers a few times, and not for each."""
    copied = 0

    class CountingTopic(Topic):
        @property
        def sinks(self) -> tuple[Member, ...]:
            return self._kept

        @sinks.setter
        def sinks(self, sinks: tuple[Member, ...]) -> None:
            nonlocal copied
            copied += len(sinks)
            self._kept = sinks

    monkeypatch.setattr("pipe.stream.router.Topic", CountingTopic)
    router = Router()
    readers = [pattern_reader(router) for _ in range(100)]
    subscriber(router, NAME).vanish()
    assert NAME not in router
    assert copied <= 5 * len(readers)
    assert not any(reader.member.topics for reader in readers)


def test_topic_may_open_again_when_it_closes() -> None:
    """The callback of a topic that closes may open it anew."""
    reopened: list[FakeSink] = []

    def reopen(name: TopicName) -> None:
        if not reopened:
            reopened.append(subscriber(router, name))

    router = Router(reopen)
    subscriber(router, NAME).vanish()
    assert router.members(NAME) == (reopened[0].member,)
    reopened[0].vanish()
    assert NAME not in router


def test_pattern_takes_in_topics_now_and_later(router: Router) -> None:
    """A pattern reader reads the topics that match and that it is admitted to, no others."""
    secret, foreign = TopicName("alice", ("secret",)), TopicName("bob", ("build",))
    before = publisher(router, NAME)
    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, ALL, lambda name: name != secret)
    after = publisher(router, OTHER)
    denied, other = publisher(router, secret), publisher(router, foreign)
    assert [source.waiting for source in (before, after, denied, other)] == [0, 0, 1, 1]
    assert router.members(NAME) == (before.member, sink.member)


def test_pattern_reader_reads_whole_streams_of_a_topic_that_opens(router: Router) -> None:
    """It is on the topic before its first publisher."""
    sink = pattern_reader(router)
    publisher(router, NAME, wants=0).send("first")
    sink.drain()
    assert sink.text == "first"


def test_error_while_admitting_opens_no_topic(router: Router) -> None:
    """If the access rules cannot be asked, the topic does not stay half open."""

    def fail(_: TopicName) -> bool:
        raise ZeroDivisionError

    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, ALL, fail)
    with pytest.raises(ZeroDivisionError):
        subscriber(router, NAME)
    assert NAME not in router


def test_review_takes_topics_in_and_out(router: Router) -> None:
    """When the rules of a topic change, readers on patterns come and go; others are left alone."""
    admitted = {NAME}
    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, ALL, lambda name: name in admitted)
    here, there = publisher(router, NAME), publisher(router, OTHER)
    named = subscriber(router, NAME)
    here.send("1")
    admitted = {OTHER}
    for name in (NAME, OTHER, TopicName("alice", ("none",))):
        router.review(name)
        router.review(name)
    here.send("2")
    there.send("3")
    for reader in (sink, named):
        reader.drain()
    assert (sink.text, named.text) == ("13", "12")
    here.end()
    assert here.receipts == [Receipt(2, 2, 1)]


def test_review_frees_publishers_of_a_clogged_reader(router: Router) -> None:
    """A clogged reader that may read a topic no more holds up nobody there."""
    admitted = {NAME, OTHER}
    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, ALL, lambda name: name in admitted)
    here, there = publisher(router, NAME, wants=0), publisher(router, OTHER, wants=0)
    here.send(FULL)
    admitted = {NAME}
    router.review(OTHER)
    assert (here.paused, there.paused) == (True, False)
    sink.drain()
    assert (here.paused, there.paused) == (False, False)


def test_pattern_reader_that_was_cut_is_nobody_on_a_new_topic(router: Router) -> None:
    """It has not confirmed its end yet, and no publisher takes it for a subscriber."""
    sink = FakeSink(router, confirms=False)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink, on_slow=OnSlow.DISCONNECT)
    router.join_pattern(sink.member, ALL, lambda _: True)
    publisher(router, NAME).send(FULL)
    assert sink.cut_for is Outcome.SLOW

    assert publisher(router, OTHER).waiting == 1


def test_at_once_makes_changes_as_one(router: Router) -> None:
    """Nobody goes on between two changes that belong together."""
    source = publisher(router, NAME, synchronous=True)
    source.send("to both")
    with router.at_once():
        sinks = [subscriber(router, NAME) for _ in range(2)]
        assert source.paused
    assert [sink.taken for sink in sinks] == [source.published] * 2


def test_clogged_since_the_longest_clogged() -> None:
    """A topic tells since when its slowest sink is clogged, by the router's clock."""
    now = 0.0
    router = Router(clock=lambda: now)
    here, there = publisher(router, NAME), publisher(router, OTHER)
    slow, slower = subscriber(router, NAME), pattern_reader(router)
    now = 1.0
    there.send(FULL)
    now = 2.0
    slow.clogged = True
    router.update(slow.member)
    assert [topic.clogged_since for topic in topics(router)] == [1.0, 1.0]
    slower.drain()
    assert [topic.clogged_since for topic in topics(router)] == [2.0, None]
    assert here.paused


def test_statistics_are_exact(router: Router) -> None:
    """Counters count what happened, of those that are there and of those that left."""
    source = publisher(router, NAME, wants=2)
    reader = subscriber(router, NAME)
    piped, own = pipe(router, NAME)
    source.send("hello", "you")
    piped.send("?")
    reader.drain(6)
    own.drain(2)
    now = router.statistics()
    assert now.topics == 1
    assert now.sessions == {Mode.PUBLISH: 1, Mode.SUBSCRIBE: 1, Mode.PIPE: 1}
    assert now.received_bytes == {Mode.PUBLISH: 8, Mode.SUBSCRIBE: 0, Mode.PIPE: 1}
    assert now.delivered_bytes == {Mode.PUBLISH: 0, Mode.SUBSCRIBE: 6, Mode.PIPE: 2}
    assert (now.received_chunks, now.delivered_chunks) == (3, 5)
    assert now.send_buffer_bytes == 3 + 6
    [topic] = topics(router)
    assert (topic.publishers, topic.subscribers, topic.pipes) == (1, 1, 1)
    assert (topic.received_bytes, topic.delivered_bytes) == (9, 8)

    for member in (reader, own, source):
        member.vanish()
    later = router.statistics()
    assert later.sessions == dict.fromkeys(Mode, 0)
    assert (later.topics, later.send_buffer_bytes) == (0, 0)
    assert later.received_bytes == now.received_bytes
    assert later.delivered_bytes == now.delivered_bytes
    assert later.delivered_chunks == now.delivered_chunks


def test_statistics_stay_exact_when_a_sink_breaks_inside_write(router: Router) -> None:
    """The chunk that broke it was taken and not delivered."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME)
    source.send("good")
    sink.drain()
    sink.on_write = sink.vanish
    source.send("bad")
    assert router.statistics().delivered_bytes[Mode.SUBSCRIBE] == len("good")


def test_statistics_tell_who_waits_and_who_is_clogged(router: Router) -> None:
    """Waiting publishers and clogged sinks are counted once, in all and per topic."""
    source = publisher(router, NAME)
    publisher(router, OTHER, wants=2)
    pattern_reader(router)
    source.send(FULL)
    now = router.statistics()
    assert (now.waiting_publishers, now.clogged_subscribers) == (1, 1)
    assert [(str(t.name), t.waiting, t.clogged, t.subscribers) for t in topics(router)] == [
        ("alice/build", 0, 1, 1),
        ("alice/test", 1, 1, 1),
    ]
