"""Bytes within a sliding window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipe.events.monitors.meter import SLOTS, Meter

EVERY = 600.0
SLOT = EVERY / SLOTS

arrivals = st.lists(
    st.tuples(st.floats(0, 100), st.integers(1, 1000)), min_size=1, max_size=200
).map(
    lambda steps: [(sum(step for step, _ in steps[: n + 1]), s) for n, (_, s) in enumerate(steps)]
)


@given(arrivals)
def test_total_is_exact_to_a_slot(come: list[tuple[float, int]]) -> None:
    """What is counted is what came within the window, give or take a sixtieth of it."""
    meter = Meter(EVERY)
    for when, size in come:
        meter.add(when, size)
    now = come[-1][0]
    least = sum(size for when, size in come if when > now - EVERY)
    most = sum(size for when, size in come if when > now - EVERY - SLOT)
    assert least <= meter.total(now) <= most


@given(arrivals, st.integers(1, 5000))
def test_since_finds_the_oldest_byte_that_is_needed(
    come: list[tuple[float, int]], need: int
) -> None:
    """From that time on so much came, and from a slot later on it did not."""
    meter = Meter(EVERY)
    for when, size in come:
        meter.add(when, size)
    since = meter.since(need)
    recent = [(when, size) for when, size in come if when > come[-1][0] - EVERY]
    if since is None:
        assert sum(size for _, size in recent) < need
        return
    assert sum(size for when, size in come if when >= since - SLOT) >= need
    assert sum(size for when, size in recent if when > since) < need


@given(arrivals)
def test_it_takes_little_memory(come: list[tuple[float, int]]) -> None:
    """However much comes, there are as many counts as slots."""
    meter = Meter(EVERY)
    for when, size in come:
        meter.add(when, size)
    assert len(meter.dump()) <= SLOTS + 1


def test_the_same_again() -> None:
    """A meter goes on from what another one dumped, later if nobody counted meanwhile."""
    meter = Meter(EVERY)
    meter.add(100.0, 5)
    meter.add(200.0, 7)
    again = Meter(EVERY, meter.dump())
    again.shift(1000.0)
    assert again.total(1250.0) == 12
    assert again.since(8) == 1100.0
