"""A reader of lines that may be slow."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pipe.events.logs.filters import Filter
from pipe.events.logs.followers import MAX_QUEUE_BYTES, Follower
from pipe.events.logs.rings import LINE_COST

STEPS = st.lists(st.integers(1, 60_000) | st.none())


def follower(left: list[Follower] | None = None) -> Follower:
    """Alice's, who wants everything."""
    return Follower("alice", Filter(), (left if left is not None else []).append, lambda: 0.0)


@given(STEPS)
def test_what_is_not_there_is_counted(steps: list[int | None]) -> None:
    """Lines come in order, each once or counted where it is missing, and few wait at a time."""
    one = follower()
    offered = taken = 0
    last = -1
    for size in [*steps, *[None] * 100]:
        if size is not None:
            line = b'{"n":%d,"x":"%s"}\n' % (offered, b"x" * size)
            offered += 1
            one.offer(line)
            continue
        data = one.take(32 * 1024)
        assert len(data) <= 32 * 1024 + 60_100
        for raw in data.splitlines():
            fields = json.loads(raw)
            if "n" in fields:
                assert fields["n"] > last
                last = fields["n"]
                taken += 1
            else:
                assert fields["msg"] == "lines dropped"
                taken += fields["count"]
    assert taken == offered


def test_the_bound() -> None:
    """No more waits than allowed, and once it is taken, lines come again."""
    one = follower()
    line = b"x" * 1000
    count = 0
    while one.offer(line):
        count += 1
    assert count == MAX_QUEUE_BYTES // (1000 + LINE_COST)
    assert not one.offer(b"y")
    data = one.take(MAX_QUEUE_BYTES)
    assert data.count(b"x") == count * 1000
    assert b'"count":2' in data
    assert one.offer(b"z")
    assert one.take(10) == b"z"
    assert one.take(10) == b""


def test_a_line_as_long_as_can_be_is_taken() -> None:
    """A line that is longer than the queue comes alone, so that none waits for ever."""
    one = follower()
    assert one.offer(b"x" * (2 * MAX_QUEUE_BYTES))
    assert len(one.take(1)) == 2 * MAX_QUEUE_BYTES


def test_close() -> None:
    """A follower that is closed is told of nothing, and says so once."""
    left: list[Follower] = []
    woken: list[int] = []
    one = follower(left)
    one.connect(lambda: woken.append(1))
    one.wake()
    one.offer(b"x")
    one.close()
    one.close()
    one.wake()
    assert left == [one]
    assert woken == [1]
    assert one.take(10) == b""
