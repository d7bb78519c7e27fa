"""The last bytes of a topic."""

from __future__ import annotations

import tracemalloc

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from pipe.language.names import TopicName
from pipe.stream.chunks import Chunk
from pipe.stream.ring import PACK_BYTES, PACKED_BYTES, Ring
from pipe.stream.router import Router
from tests.fakes import publisher

LARGE = {
    "packed": b"x" * PACKED_BYTES,
    "lines": b"y\n" * PACKED_BYTES,
    "alone": b"z" * (PACK_BYTES + 1),
    "end": b"\n",
}
"""Pieces by a name, as hypothesis prints what it has tried."""

pieces = st.lists(st.binary(max_size=40) | st.sampled_from(sorted(LARGE)), max_size=30)


def filled(bound: int, parts: list[bytes | str]) -> tuple[Ring, bytes]:
    """A ring that is trimmed after each piece, and all that was put into it."""
    ring, bytes_ = Ring(bound), as_bytes(parts)
    for part in bytes_:
        ring.append(part)
        ring.trim()
    return ring, b"".join(bytes_)


def as_bytes(parts: list[bytes | str]) -> list[bytes]:
    """The pieces themselves."""
    return [LARGE[part] if isinstance(part, str) else part for part in parts]


def rest(ring: Ring, position: int) -> bytes:
    """All from a position on."""
    found = bytearray()
    while position + len(found) < ring.end:
        found += ring.read(position + len(found))
    return bytes(found)


@given(bound=st.integers(1, 300_000), parts=pieces)
def test_keeps_the_last_bytes(bound: int, parts: list[bytes | str]) -> None:
    """It has the last bytes up to its bound, and at most a piece or an open pack more."""
    ring, everything = filled(bound, parts)
    assert ring.end == len(everything)
    assert rest(ring, ring.start) == everything[ring.start :]
    assert ring.size >= min(bound, len(everything))
    most = max((len(part) for part in as_bytes(parts)), default=0) + PACK_BYTES + PACKED_BYTES
    assert ring.size <= bound + most


@given(bound=st.integers(1, 100_000), parts=pieces, data=st.data())
def test_is_read_from_any_position(
    bound: int, parts: list[bytes | str], data: st.DataObject
) -> None:
    """From each position that it keeps, its bytes are those that were sent."""
    ring, everything = filled(bound, parts)
    position = data.draw(st.integers(ring.start, ring.end))
    assert rest(ring, position) == everything[position:]


@given(parts=pieces, data=st.data())
def test_keeps_what_is_needed(parts: list[bytes | str], data: st.DataObject) -> None:
    """Nothing is dropped from the floor on, whatever the bound."""
    everything = b"".join(as_bytes(parts))
    floor = data.draw(st.integers(0, len(everything)))
    ring = Ring(1)
    for part in as_bytes(parts):
        ring.append(part)
        ring.trim(floor)
    assert ring.start <= floor
    assert rest(ring, floor) == everything[floor:]


@pytest.mark.parametrize("position", [-1, 0, 200_000, 200_001])
def test_has_nothing_else(position: int) -> None:
    """What was dropped, or has not come, is not to be had."""
    ring, _ = filled(10, [b"x" * 100_000, b"y" * 100_000])
    with pytest.raises(IndexError):
        ring.read(position)


@given(bound=st.integers(1, 100_000), parts=pieces, count=st.integers(0, 50))
@example(bound=1, parts=["end", "alone"], count=1)
def test_finds_lines(bound: int, parts: list[bytes | str], count: int) -> None:
    """The last lines are found, or all whole ones that are kept."""
    ring, everything = filled(bound, parts)
    lines = [line + b"\n" for line in everything.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    lines = [line for line in lines if line]
    wanted = len(everything) - sum(map(len, lines[len(lines) - min(count, len(lines)) :]))
    found = ring.find_lines(count)
    if wanted >= ring.start:
        assert found == wanted
    else:
        assert found >= ring.start
        assert found == ring.end or everything[found - 1 : found] == b"\n"
        assert b"\n" not in everything[ring.start : max(ring.start, found - 1)]


@pytest.mark.parametrize("size", [64, PACKED_BYTES, PACKED_BYTES + 1, 32 * 1024])
def test_memory(size: int) -> None:
    """It takes 5 % more than its bytes at most, however they were cut."""
    bound = 2 * 1024 * 1024
    tracemalloc.start()
    try:
        ring = Ring(bound)
        for _ in range(2 * bound // size):
            ring.append(memoryview(bytes(size)))
            ring.trim()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ring.size <= bound + PACK_BYTES + PACKED_BYTES + size
    assert taken <= ring.size * 1.05


@pytest.mark.slow
def test_thousand_rings_at_their_bound() -> None:
    """So many topics together take 5 % more than what they keep at most, the router included."""
    bound, sizes = 256 * 1024, (1024, 32 * 1024)
    router = Router()
    tracemalloc.start()
    try:
        for number in range(1000):
            writer = publisher(router, TopicName("alice", (f"t{number}",)), wants=0, keep=bound)
            size = sizes[number % len(sizes)]
            for _ in range(2 * bound // size):
                router.publish(writer.member, Chunk(bytes(size)))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert router.kept_bytes >= 1000 * bound
    assert taken <= router.kept_bytes * 1.05
