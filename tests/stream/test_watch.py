"""Watchers see what happens on a topic, and change nothing there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.language.requests import Dispatch
from pipe.stream.chunks import Chunk
from tests.fakes import NAME, OTHER, pipe, publisher, subscriber

if TYPE_CHECKING:
    from pipe.stream.router import Router


class Notes:
    """Keeps what a watcher is told."""

    def __init__(self) -> None:
        self.seen: list[int | tuple[int, bool]] = []

    def published(self, size: int) -> None:
        """Note it."""
        self.seen.append(size)

    def ended(self, status: int, broken: bool) -> None:
        """Note it."""
        self.seen.append((status, broken))

    def idle(self) -> None:
        """It is no end of what was published."""


def test_watcher_sees_chunks_and_ends_of_its_topic_only(router: Router) -> None:
    """It is told sizes and ends, before the topic exists and after it came again."""
    notes = Notes()
    router.watch(NAME, notes)
    for _ in range(2):
        sinks = subscriber(router, NAME), subscriber(router, OTHER)
        source, other = publisher(router, NAME, exit_status=3), publisher(router, OTHER)
        other.send("elsewhere")
        source.send("abc", "de")
        source.end()
        other.end()
        for sink in sinks:
            sink.drain()
    assert notes.seen == [3, 2, (3, False)] * 2


def test_watcher_sees_records_that_are_dealt_out(router: Router) -> None:
    """Records in turn count as the bytes that they are."""
    notes = Notes()
    subscriber(router, NAME)
    subscriber(router, NAME)
    source = publisher(router, NAME, dispatch=Dispatch.ROUND_ROBIN)
    router.watch(NAME, notes)
    router.deal(source.member, Chunk(b"a\nb\n"), b"\n")
    assert notes.seen == [4]


def test_broken_stream_is_told_apart(router: Router) -> None:
    """A publisher that goes without an end of file has broken off; a silent pipe has not."""
    notes = Notes()
    router.watch(NAME, notes)
    subscriber(router, NAME)
    source = publisher(router, NAME)
    source.send("a")
    source.vanish()
    reader, _ = pipe(router, NAME)
    reader.vanish()
    assert notes.seen == [1, (0, True)]


def test_watcher_is_no_reader(router: Router) -> None:
    """A publisher waits as if there were no watcher, and one that gave up waiting has not ended."""
    notes = Notes()
    router.watch(NAME, notes)
    source = publisher(router, NAME)
    assert source.paused
    source.vanish()
    assert notes.seen == []


def test_watching_ends(router: Router) -> None:
    """Whoever watches no more is told nothing, while others are; it can be done twice."""
    leaves, stays = Notes(), Notes()
    router.watch(NAME, leaves)
    router.watch(NAME, stays)
    subscriber(router, NAME)
    source = publisher(router, NAME)
    router.unwatch(NAME, leaves)
    router.unwatch(NAME, leaves)
    source.send("a")
    assert (leaves.seen, stays.seen) == ([], [1])


def test_watcher_for_another_server_counts_as_none(router: Router) -> None:
    """It is told all the same, but who asks what is watched here does not hear of it."""
    heard: list[bool] = []
    router.watched = lambda _, watched: heard.append(watched)
    here, there = Notes(), Notes()
    router.watch(NAME, there, here=False)
    assert (heard, router.watched_names) == ([], ())
    router.watch(NAME, here)
    assert (router.watched_names, router.watchers(NAME)) == ((NAME,), (here,))
    publisher(router, NAME, wants=0).send("abc")
    router.unwatch(NAME, here)
    router.unwatch(NAME, there)
    assert heard == [True, False]
    assert here.seen == there.seen == [3]
    assert router.watchers(NAME) == ()
