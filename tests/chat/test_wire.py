"""Lines on the topic: what is written is read, and nobody speaks for somebody else."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pipe.chat.events import SERVER, UNKNOWN, Kind
from pipe.chat.wire import (
    MAX_LINE_BYTES,
    MAX_LINES_READ,
    MAX_UNPRUNED,
    Lines,
    read_line,
    shown_name,
    write_lines,
)

from .people import member_of

USERS = st.from_regex(r"\A[a-z][a-z0-9_-]{0,31}\Z")
NICKS = st.from_regex(r"\A(?:[A-Za-z0-9_-]{1,16})?\Z")
TEXTS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=80)


@given(user=USERS, nick=NICKS, text=TEXTS, action=st.booleans())
def test_what_is_said_is_read(user: str, nick: str, text: str, action: bool) -> None:
    """A chat's line comes out as it went in, with the name."""
    name = shown_name(user, nick)
    [line], _ = Lines().feed("source", write_lines(name, [text + "."], action=action))
    event = read_line(user, line)

    assert event == (Kind.DID if action else Kind.SAID, user, name, text + ".")


@given(user=USERS, line=st.binary(max_size=80), claimed=USERS, nick=NICKS, action=st.booleans())
def test_nobody_speaks_for_another(
    user: str, line: bytes, claimed: str, nick: str, action: bool
) -> None:
    """Whatever a user publishes is shown under that user's name."""
    claim = write_lines(shown_name(claimed, nick), ["I owe you"], action=action).rstrip(b"\n")
    for raw in (line, claim, claim + line, line + claim):
        event = read_line(user, raw)
        assert event.user == user
        assert event.name.partition("~")[0] == user


@pytest.mark.parametrize(
    ("user", "line", "name", "text"),
    [
        ("mallory", "alice: I owe you", "mallory", "alice: I owe you"),
        ("mallory", "* alice pays", "mallory", "* alice pays"),
        ("al", "alice: hi", "al", "alice: hi"),
        ("alice", "alice hi", "alice", "alice hi"),
        ("alice", "alice~not a nick: hi", "alice", "alice~not a nick: hi"),
        ("alice", "alice:hi\r", "alice", "hi"),
        ("", "alice: hi", SERVER, "alice: hi"),
        (None, "alice: hi", UNKNOWN, "alice: hi"),
    ],
)
def test_claims(user: str | None, line: str, name: str, text: str) -> None:
    """Only the publisher's own name at the beginning is taken as a name."""
    event = read_line(user, line.encode())

    assert (event.kind, event.name, event.text) == (Kind.SAID, name, text)


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_lines_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    """Pieces of any size give the same lines."""
    lines, places = Lines(), sorted({0, *cuts, len(data)})
    found = [
        line
        for start, stop in pairwise(places)
        for line in lines.feed("source", data[start:stop])[0]
    ]

    assert found == [line for line in data.split(b"\n")[:-1] if line]


def test_sources_are_kept_apart() -> None:
    """Two that type at the same time do not write into each other's lines."""
    lines = Lines()

    assert lines.feed("one", b"he") == ([], 0)
    assert lines.feed("other", b"bye\n") == ([b"bye"], 0)
    assert lines.feed("one", b"llo\n") == ([b"hello"], 0)


def test_long_line_is_cut() -> None:
    """What has no end of line does not wait for one."""
    lines = Lines()
    found = lines.feed("one", b"x" * (3 * MAX_LINE_BYTES + 1))

    assert found == ([b"x" * MAX_LINE_BYTES] * 3, 0)
    assert lines.feed("one", b"\n") == ([b"x"], 0)
    assert lines.feed("one", b"y" * MAX_LINE_BYTES) == ([b"y" * MAX_LINE_BYTES], 0)
    assert lines.feed("one", b"z\n") == ([b"z"], 0)


def test_lines_that_nobody_could_read_are_only_counted() -> None:
    """A chunk full of them costs no more than its first ones; the last one goes on."""
    lines = Lines()
    found, more = lines.feed("one", b"x\n" * 1_000_000 + b"la")

    assert (len(found), more) == (MAX_LINES_READ, 1_000_000 - MAX_LINES_READ)
    assert lines.feed("one", b"st\n") == ([b"last"], 0)


def test_beginnings_of_the_gone_are_forgotten() -> None:
    """Members who come, begin a line and go leave nothing behind."""
    lines = Lines()
    for _ in range(10 * MAX_UNPRUNED):
        member = member_of("alice")
        lines.feed(member, b"begun")
        lines.prune(member)
        member.joined = False

    assert len(lines) <= MAX_UNPRUNED + 1
