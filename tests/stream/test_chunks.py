"""Chunks, the records that a stream is cut into, and chunks that wait."""

from __future__ import annotations

import tracemalloc
from collections import deque
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pipe.stream.chunks import MAX_RECORD_BYTES, PACK_BYTES, SMALL_BYTES, Backlog, Chunk, Framer
from pipe.stream.chunks import RecordTooLong as TooLong

streams = st.lists(st.sampled_from([b"\n", b"\0", b"a", b"bc", b"\xff" * 9])).map(b"".join)
separators = st.sampled_from([b"\n", b"\0"])


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Cut a stream at some places, wherever they are."""
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:stop] for start, stop in pairwise(edges)]


def feed(framer: Framer, piece: bytes | memoryview) -> bytes:
    """What a framer has to say to a piece."""
    return bytes(framer.feed(Chunk(piece)).data)


def frame(pieces: list[bytes], separator: bytes) -> list[bytes]:
    """All records of a stream that comes in pieces."""
    framer = Framer(separator)
    whole = [feed(framer, piece) for piece in pieces]
    assert all(piece.endswith(separator) for piece in whole if piece)
    last = framer.close()
    ended = [record + separator for record in b"".join(whole).split(separator)[:-1]]
    return [*ended, last] if last else ended


def test_chunk_knows_its_size() -> None:
    """The size is that of the data, of bytes and of views."""
    for data in (b"abc", memoryview(b"abc")):
        chunk = Chunk(data)
        assert (chunk.data, chunk.size, len(chunk), chunk.frame) == (data, 3, 3, None)


@given(stream=streams, places=st.lists(st.integers(0, 1000)), separator=separators)
def test_records_do_not_depend_on_packets(
    stream: bytes, places: list[int], separator: bytes
) -> None:
    """However the stream is cut into packets, the records are the same."""
    assert frame(cut(stream, places), separator) == frame([stream], separator)


@given(stream=streams, places=st.lists(st.integers(0, 1000)), separator=separators)
def test_nothing_is_lost_between_records(
    stream: bytes, places: list[int], separator: bytes
) -> None:
    """Put together, the records are the stream; each ends at a separator, and only there."""
    records = frame(cut(stream, places), separator)
    assert b"".join(records) == stream
    assert all(record.find(separator) in {len(record) - 1, -1} for record in records)
    assert all(record.endswith(separator) for record in records[:-1])


def test_records_come_as_soon_as_they_are_whole() -> None:
    """Only the record that has not ended yet is held back."""
    framer = Framer(b"\n")
    assert feed(framer, b"a\nb\nc") == b"a\nb\n"
    assert feed(framer, b"") == b""
    assert feed(framer, memoryview(b"d\n")) == b"cd\n"
    assert framer.close() == b""


@pytest.mark.parametrize("data", [b"\n" * 32_768, b"a\n"])
def test_whole_records_pass_through(data: bytes) -> None:
    """What begins and ends with a whole record goes on as the chunk that it came in, uncut."""
    framer = Framer(b"\n")
    chunk = Chunk(data)
    assert framer.feed(chunk) is chunk


def test_records_before_one_that_began_earlier() -> None:
    """What was held back counts for the first record's length, and is lost with it alone."""
    framer = Framer(b"\n")
    feed(framer, b"x" * 10)
    with pytest.raises(TooLong) as caught:
        feed(framer, b"x" * (MAX_RECORD_BYTES - 10) + b"\n")
    assert caught.value.records.size == 0
    framer = Framer(b"\n")
    feed(framer, b"ab")
    with pytest.raises(TooLong) as caught:
        feed(framer, b"c\n" + b"x" * MAX_RECORD_BYTES + b"\n")
    assert bytes(caught.value.records.data) == b"abc\n"


def test_closing_gives_the_rest_once() -> None:
    """The last record needs no separator."""
    framer = Framer(b"\n")
    feed(framer, b"rest")
    assert (framer.close(), framer.close()) == (b"rest", b"")


@pytest.mark.parametrize("places", [[], [1], [MAX_RECORD_BYTES - 1], list(range(0, 9999, 100))])
def test_longest_record(places: list[int]) -> None:
    """A record may be as long as the bound, with its separator, or without as the last one."""
    longest = b"x" * (MAX_RECORD_BYTES - 1) + b"\n"
    assert frame(cut(longest + longest, places), b"\n") == [longest, longest]
    last = b"x" * MAX_RECORD_BYTES
    assert frame(cut(last, places), b"\n") == [last]


@pytest.mark.parametrize("places", [[], [1], [MAX_RECORD_BYTES], [2, MAX_RECORD_BYTES]])
@pytest.mark.parametrize("end", [b"x", b"\n", b"x\nmore\n"])
def test_record_that_is_too_long(places: list[int], end: bytes) -> None:
    """One byte more is too long, however it comes."""
    with pytest.raises(TooLong):
        frame(cut(b"x" * MAX_RECORD_BYTES + end, places), b"\n")


def test_records_before_one_that_is_too_long() -> None:
    """What came whole before it in the same packet is not lost with it."""
    framer = Framer(b"\n")
    with pytest.raises(TooLong) as caught:
        feed(framer, b"a\nb\n" + b"x" * MAX_RECORD_BYTES + b"x\nlate\n")
    assert bytes(caught.value.records.data) == b"a\nb\n"
    assert str(MAX_RECORD_BYTES) in caught.value.message


@given(st.lists(st.none() | st.integers(1, 5) | st.integers(SMALL_BYTES - 1, SMALL_BYTES + 2)))
def test_backlog_is_a_queue(steps: list[int | None]) -> None:
    """Chunks come out as they went in, one by one, whatever their sizes."""
    backlog, model = Backlog(), deque[bytes]()
    for number, size in enumerate(steps):
        if size is not None:
            data = bytes([number % 256]) * size
            backlog.append(Chunk(data))
            model.append(data)
        elif model:
            assert bytes(backlog.popleft().data) == model.popleft()
        assert bool(backlog) == bool(model)
    while model:
        assert bytes(backlog.popleft().data) == model.popleft()
    with pytest.raises(IndexError):
        backlog.popleft()


def test_backlog_can_be_cleared() -> None:
    """Nothing waits any more."""
    backlog = Backlog()
    backlog.append(Chunk(b"x"))
    backlog.clear()
    assert not backlog


def test_backlog_that_is_never_empty_does_not_grow() -> None:
    """What has been taken is given back, though something always waits."""
    backlog = Backlog()
    chunk = Chunk(b"x" * 100)
    backlog.append(chunk)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            backlog.append(chunk)
            backlog.popleft()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * PACK_BYTES
