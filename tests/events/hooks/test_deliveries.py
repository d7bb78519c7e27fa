"""The last deliveries of each hook, and their rate."""

from __future__ import annotations

import pytest

from pipe.errors import QuotaExceeded
from pipe.events.hooks.deliveries import (
    BURST,
    KEPT,
    MAX_HOOKS,
    RATE,
    TELL_SECONDS,
    Deliveries,
    Delivery,
    Result,
)


def delivery(number: int, result: Result = Result.PUBLISHED) -> Delivery:
    """One that is known by its size."""
    return Delivery(float(number), result, number)


def test_last_ones_are_kept() -> None:
    """The newest stands first, and the oldest goes."""
    deliveries = Deliveries()
    for number in range(KEPT + 5):
        deliveries.note("a", delivery(number), 0.0)
    sizes = [one.size for one in deliveries.of("a")]
    assert sizes == list(range(KEPT + 4, 4, -1))
    assert deliveries.of("b") == ()


def test_refused_ones_are_one_entry() -> None:
    """However often strangers try, what was delivered stays in sight."""
    deliveries = Deliveries()
    deliveries.note("a", delivery(1), 0.0)
    for number in range(2, 100):
        deliveries.note("a", delivery(number, Result.REFUSED), 0.0)
    last, first = deliveries.of("a")
    assert (last.result, last.times, last.size) == (Result.REFUSED, 98, 99)
    assert first == delivery(1)


def test_rate() -> None:
    """So many may come at once, and so many a second; each hook has its own."""
    deliveries = Deliveries()

    def taken(hook: str, now: float) -> int:
        count = 0
        try:
            while True:
                deliveries.take(hook, now)
                count += 1
        except QuotaExceeded:
            return count

    assert taken("a", 100.0) == BURST
    assert taken("a", 100.0) == 0
    assert taken("a", 101.0) == RATE
    assert taken("b", 101.0) == BURST
    assert taken("a", 1e6) == BURST


@pytest.mark.parametrize("result", Result)
def test_trouble_is_told_now_and_then(result: Result) -> None:
    """A hook's user is told of trouble, but of the same no more than once a minute."""
    deliveries = Deliveries()
    told = [
        deliveries.note("a", delivery(1, result), now)
        for now in (0.0, 1.0, TELL_SECONDS, TELL_SECONDS + 1)
    ]
    assert told == ([True, False, True, False] if result.is_trouble else [False] * 4)


def test_hooks_are_bounded() -> None:
    """Of many hooks those are remembered that were used last."""
    deliveries = Deliveries()
    for number in range(MAX_HOOKS + 10):
        deliveries.note(str(number), delivery(1), 0.0)
        deliveries.note("0", delivery(1), 0.0)
    assert len(deliveries) == MAX_HOOKS
    assert deliveries.of("0")
    assert not deliveries.of("1")
    deliveries.forget("0")
    assert not deliveries.of("0")
