"""The last lines of each user, in bounded memory."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from pipe.events.logs.rings import LINE_COST, MAX_BYTES, MAX_RING_BYTES, RING_COST, Ring, Rings
from pipe.language.log_requests import MAX_LINES


def texts(ring: Ring, start: float = 0.0) -> list[bytes]:
    """Its lines, the newest first."""
    return list(ring.since(start))


@given(st.lists(st.integers(0, 20_000)))
def test_a_ring_keeps_the_newest_that_fit(sizes: list[int]) -> None:
    """It keeps as many of the newest lines as its bounds allow, and one at least."""
    ring = Ring()
    lines = [b"x" * size for size in sizes]
    for line in lines:
        ring.append(0.0, line)
    kept = texts(ring)[::-1]
    assert kept == lines[len(lines) - len(kept) :]
    assert ring.size == sum(len(line) + LINE_COST for line in kept)
    assert len(kept) <= MAX_LINES
    assert len(kept) == 1 or ring.size <= MAX_RING_BYTES
    if len(kept) < len(lines):
        following = len(lines[-len(kept) - 1]) + LINE_COST
        assert len(kept) == MAX_LINES or ring.size + following > MAX_RING_BYTES


def test_since() -> None:
    """Lines of a time are those that came then or later."""
    ring = Ring()
    for second in range(5):
        ring.append(float(second), b"%d" % second)
    assert texts(ring, 3.0) == [b"4", b"3"]
    assert texts(ring, 9.0) == []


def test_many_users_share_what_there_is() -> None:
    """However many users are named, all together keep no more than allowed: the newest and read."""
    rings = Rings()
    rings.append("alice", 0.0, b"hers")
    rings.append("bob", 0.0, b"his")
    for number in range(2 * MAX_BYTES // (RING_COST + 1000)):
        rings.append(f"u{number}", 0.0, b"x" * 1000)
        assert rings.size <= MAX_BYTES
        if not number % 1000:
            assert texts(rings.of("alice")) == [b"hers"]
    assert texts(rings.of("bob")) == []
    assert texts(rings.of("u0")) == []
    assert texts(rings.of(f"u{number}")) == [b"x" * 1000]
    assert len(rings) > MAX_BYTES // (RING_COST + 2000)


def test_a_peek_is_no_use() -> None:
    """What strangers do in a user's name keeps nobody's lines."""
    rings = Rings()
    assert rings.peek("alice") is None
    rings.append("alice", 0.0, b"x")
    rings.append("bob", 0.0, b"x")
    assert rings.peek("alice")
    for number in range(MAX_BYTES // MAX_RING_BYTES):
        rings.append(f"u{number}", 0.0, b"x" * (MAX_RING_BYTES - LINE_COST))
    assert rings.peek("alice") is None


def test_who_is_gone_leaves_nothing() -> None:
    """A user who is no more has no lines, and all is given back."""
    rings = Rings()
    rings.append("alice", 0.0, b"x")
    rings.forget("alice")
    rings.forget("bob")
    assert rings.size == len(rings) == 0
    assert texts(rings.of("alice")) == []


def test_costs_are_what_they_are() -> None:
    """A line and a ring take no more memory than is counted for them."""
    ring = Ring()
    held = sys.getsizeof(ring) + sys.getsizeof(ring.lines) + sys.getsizeof("alice") + 100
    assert held <= RING_COST
    line = sys.getsizeof(b"") + sys.getsizeof((0.0, b"")) + sys.getsizeof(0.0) + 8
    assert line <= LINE_COST
