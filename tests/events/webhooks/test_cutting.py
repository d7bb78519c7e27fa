"""A topic's bytes as bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.events.webhooks import cutting
from pipe.events.webhooks.cutting import MAX_BODY_BYTES, Body, Lines, Streams

PLENTY = 1 << 30


class Taker:
    """Takes bodies as long as there is room, and counts what is lost."""

    def __init__(self, room: int = PLENTY, spare: int = PLENTY) -> None:
        self.bodies: list[Body] = []
        self.lost = 0
        self.room = room
        self.most = spare

    def emit(self, body: Body) -> bool:
        """Take a body."""
        if self.has_room():
            self.bodies.append(body)
        else:
            self.lost += 1
        return self.has_room()

    def lose(self, count: int) -> None:
        """Count."""
        self.lost += count

    def has_room(self) -> bool:
        """Whether there is room."""
        return len(self.bodies) < self.room

    def spare(self) -> int:
        """How many bytes may be kept."""
        return self.most

    def lines(self) -> Lines:
        """Cut into lines."""
        return Lines(self.emit, self.lose, self.spare, self.has_room)

    def streams(self) -> Streams:
        """Cut into streams."""
        return Streams(self.emit, self.lose, self.spare)

    @property
    def data(self) -> list[bytes]:
        """All that was taken."""
        return [body.data for body in self.bodies]


PIECES = st.lists(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r"])).map(b"".join))


@given(pieces=PIECES)
def test_lines_are_the_same_however_they_come(pieces: list[bytes]) -> None:
    """There is a body for each line that is not empty, the last one too."""
    taker = Taker()
    cutter = taker.lines()
    for piece in pieces:
        cutter.feed(piece)
    cutter.end(0, broken=False)
    assert taker.data == [line for line in b"".join(pieces).split(b"\n") if line]
    assert cutter.held == 0
    assert taker.lost == 0


@given(pieces=PIECES, room=st.integers(0, 3))
def test_lines_beyond_the_room_are_counted(pieces: list[bytes], room: int) -> None:
    """The first ones are taken, and of the others each that is not empty is counted."""
    taker = Taker(room)
    cutter = taker.lines()
    for piece in pieces:
        cutter.feed(piece)
    cutter.end(0, broken=False)
    lines = b"".join(pieces).split(b"\n")
    full = [line for line in lines if line]
    assert taker.data == full[:room]
    assert len(full) - len(taker.data) <= taker.lost <= len(lines)


def test_line_that_breaks_off() -> None:
    """What may be the half of a line is not sent, and counts as lost."""
    taker = Taker()
    cutter = taker.lines()
    cutter.feed(b"one\ntw")
    cutter.end(0, broken=True)
    cutter.feed(b"three\n")
    assert taker.data == [b"one", b"three"]
    assert taker.lost == 1


def test_streams_by_their_ends() -> None:
    """There is a body for each stream, also an empty one, with its status."""
    taker = Taker()
    cutter = taker.streams()
    for piece in (b"a\n", b"b"):
        cutter.feed(piece)
    cutter.end(0, broken=False)
    cutter.end(3, broken=False)
    assert taker.bodies == [Body(b"a\nb", 3), Body(b"", 0, 3)]
    assert cutter.held == 0


@pytest.mark.parametrize("begun", [True, False])
def test_half_a_stream_is_none(begun: bool) -> None:
    """One that breaks is not sent, nor one that had begun; the next one is."""
    taker = Taker()
    cutter = taker.streams()
    if begun:
        cutter.begin_late()
    cutter.feed(b"half")
    cutter.end(0, broken=not begun)
    cutter.feed(b"whole")
    cutter.end(0, broken=False)
    assert taker.data == [b"whole"]
    assert taker.lost == 1


@pytest.mark.parametrize("make", [Taker.lines, Taker.streams])
def test_long_ones_are_cut_off(make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than a body may be is cut off, says how long it was, and takes no memory."""
    monkeypatch.setattr(cutting, "MAX_BODY_BYTES", 10)
    taker = Taker()
    cutter = make(taker)  # type: ignore[operator]
    for piece in (b"12345", b"67890abc", b"def"):
        cutter.feed(piece)
        assert cutter.held <= 10
    cutter.end(0, broken=False)
    cutter.feed(b"x" * 12 + b"\n")
    cutter.end(0, broken=False)
    first, second = taker.bodies
    assert first == Body(b"1234567890", 16)
    assert second.data == b"x" * 10
    assert second.size in {12, 13}


def test_no_gap_where_memory_was_short() -> None:
    """What was left out for want of memory is the end of a body, even if there is some again."""
    taker = Taker(spare=4)
    cutter = taker.streams()
    cutter.feed(b"123456")
    taker.most = PLENTY
    cutter.feed(b"789")
    cutter.end(0, broken=False)
    assert taker.bodies == [Body(b"1234", 9)]


def test_chunk_of_empty_lines() -> None:
    """A mebibyte of nothing but line ends is nothing, and one of short lines fills what there is.

    Neither is looked at line by line beyond that.
    """
    taker = Taker(room=100)
    cutter = taker.lines()
    cutter.feed(b"\n" * MAX_BODY_BYTES)
    assert taker.bodies == []
    cutter.feed(b"x\n" * (MAX_BODY_BYTES // 2))
    assert len(taker.bodies) == 100
    assert taker.lost == MAX_BODY_BYTES // 2 - 100


def test_stream_whose_middle_went_by() -> None:
    """There is no body of a stream that goes on behind a gap, and the next one is whole again."""
    taker = Taker()
    streams = taker.streams()
    streams.feed(b"one")
    streams.begin_late()
    streams.feed(b"three")
    streams.end(0, broken=False)
    streams.feed(b"whole")
    streams.end(0, broken=False)
    assert (taker.data, taker.lost) == ([b"whole"], 1)


def test_line_whose_end_went_by() -> None:
    """Its beginning is no line, and not put before what comes behind the gap."""
    taker = Taker()
    lines = taker.lines()
    lines.begin_late()
    lines.feed(b"one\ntw")
    lines.begin_late()
    lines.feed(b"three\n")
    assert (taker.data, taker.lost) == ([b"one", b"three"], 1)
