"""Tries and their times, with a clock of the tests'."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipe.events.webhooks.schedule import (
    DELAYS,
    MAX_BYTES,
    MAX_HOLD,
    MAX_WAITING,
    PAUSE_SECONDS,
    SPREAD,
    Fate,
    Schedule,
    Waiting,
    parse_retry_after,
)

NOW = 1000.0


def one(number: int, due: float = NOW, data: bytes = b"x") -> Waiting:
    """One that waits."""
    return Waiting(due, number, data)


def taken(schedule: Schedule, now: float) -> int:
    """The number of the one that is tried now."""
    found = schedule.take(now)
    assert found
    return found.number


def test_tries_until_it_is_given_up() -> None:
    """One that always fails is tried at once and after each delay, and is then given up."""
    schedule = Schedule(spread=lambda: 0.0)
    assert schedule.add(one(1))
    now = NOW
    for delay in DELAYS:
        assert taken(schedule, now) == 1
        assert schedule.failed(now) is Fate.AGAIN
        assert schedule.take(now + delay - 0.001) is None
        now += delay
    assert taken(schedule, now) == 1
    assert schedule.failed(now) is Fate.GIVEN_UP
    assert (len(schedule), schedule.bytes) == (0, 0)


@pytest.mark.parametrize("spread", [-1.0, 1.0])
def test_delays_are_spread(spread: float) -> None:
    """A delay is a fifth longer or shorter at most."""
    schedule = Schedule(spread=lambda: spread)
    schedule.add(one(1))
    schedule.take(NOW)
    schedule.failed(NOW)
    assert schedule.next_time() == pytest.approx(NOW + DELAYS[0] * (1 + SPREAD * spread))


def test_failed_one_lets_others_pass() -> None:
    """They go in their order, and one that fails comes again when it is due."""
    schedule = Schedule(spread=lambda: 0.0)
    for number in (1, 2, 3):
        schedule.add(one(number))
    assert taken(schedule, NOW) == 1
    schedule.failed(NOW)
    for number in (2, 3):
        assert taken(schedule, NOW) == number
        schedule.succeeded()
    assert schedule.next_time() == NOW + DELAYS[0]
    assert taken(schedule, NOW + DELAYS[0]) == 1


def test_one_at_a_time() -> None:
    """While one is being tried, no other is."""
    schedule = Schedule()
    schedule.add(one(1))
    schedule.add(one(2))
    assert taken(schedule, NOW) == 1
    assert schedule.take(NOW) is None
    assert schedule.next_time() is None
    assert len(schedule) == 2


@pytest.mark.parametrize(("asked", "waits"), [(60.0, 60.0), (0.0, 0.0), (1e9, MAX_HOLD)])
def test_receiver_is_left_alone(asked: float, waits: float) -> None:
    """A receiver that says when to come back gets nothing before that, for an hour at most."""
    schedule = Schedule(spread=lambda: 0.0)
    schedule.add(one(1))
    schedule.add(one(2))
    schedule.take(NOW)
    schedule.failed(NOW, asked)
    assert schedule.next_time() == NOW + waits
    if waits:
        assert schedule.take(NOW + waits - 0.001) is None
    assert taken(schedule, NOW + waits) in {1, 2}


def give_up(schedule: Schedule, now: float) -> Fate:
    """Let one fail from ``now`` on until it is given up."""
    schedule.add(one(1, now))
    while True:
        at = schedule.next_time()
        assert at is not None
        schedule.take(max(at, now))
        fate = schedule.failed(max(at, now))
        if fate is not Fate.AGAIN:
            return fate


def test_pause_after_a_day() -> None:
    """What is given up a day after the first failure pauses the webhook, and no sooner."""
    schedule = Schedule()
    assert give_up(schedule, NOW) is Fate.GIVEN_UP
    assert give_up(schedule, NOW + PAUSE_SECONDS / 2) is Fate.GIVEN_UP
    assert give_up(schedule, NOW + PAUSE_SECONDS) is Fate.PAUSE


def test_success_starts_the_day_anew() -> None:
    """What counts is the time since the last success."""
    schedule = Schedule(failing_since=NOW - PAUSE_SECONDS)
    schedule.add(one(1))
    schedule.take(NOW)
    schedule.succeeded()
    assert schedule.failing_since is None
    assert give_up(schedule, NOW) is Fate.GIVEN_UP


def test_full() -> None:
    """So many wait and no more, and so many bytes; but one that is alone always may."""
    schedule = Schedule()
    assert schedule.add(one(0, data=b"x" * (2 * MAX_BYTES)))
    assert not schedule.add(one(1))
    schedule.clear()
    for number in range(MAX_WAITING):
        assert schedule.has_room
        assert schedule.add(one(number))
    assert not schedule.has_room
    assert not schedule.add(one(MAX_WAITING))
    assert schedule.clear() == MAX_WAITING
    assert (len(schedule), schedule.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 59.0),
        ("Fri, 31 Dec 1999 23:58:00 GMT", 0.0),
        *((text, None) for text in (None, "", "soon", "-1", "1.5", "٣", "9" * 65)),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    """A number of seconds or a date is read, and anything else is nothing."""
    assert parse_retry_after(text, 946_684_740.0) == seconds


class Machine(RuleBasedStateMachine):
    """All that can happen to one webhook, beside a model of what has to come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.schedule = Schedule(spread=lambda: self.spread)
        self.spread = 0.0
        self.number = 0
        self.out: Waiting | None = None
        self.earliest: dict[int, float] = {}  # of each that waits: when it may be tried
        self.tries: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.held_until = 0.0
        self.failing_since: float | None = None

    @rule(seconds=st.floats(0, 2 * 86_400))
    def time_goes_by(self, seconds: float) -> None:
        """Somebody waits."""
        self.now += seconds

    @rule(size=st.sampled_from([0, 1, 1000, MAX_BYTES // 3, MAX_BYTES]))
    def add(self, size: int) -> None:
        """One more comes, and waits if there is room."""
        self.number += 1
        room = not self.sizes or (
            len(self.sizes) < MAX_WAITING and sum(self.sizes.values()) + size <= MAX_BYTES
        )
        assert self.schedule.add(one(self.number, self.now, b"x" * size)) == room
        if room:
            self.earliest[self.number] = self.now
            self.tries[self.number] = 0
            self.sizes[self.number] = size

    @precondition(lambda self: self.out is None)
    @rule()
    def take(self) -> None:
        """Who tries takes what is due first, if anything is and may be tried."""
        self.out = self.schedule.take(self.now)
        due = [number for number, at in self.earliest.items() if at <= self.now]
        assert bool(self.out) == bool(due and self.held_until <= self.now)
        if self.out:
            self.tries[self.out.number] += 1
            at = self.earliest.pop(self.out.number)
            assert at <= min(self.earliest.values(), default=at)

    @precondition(lambda self: self.out is not None)
    @rule()
    def succeed(self) -> None:
        """It arrives."""
        self.schedule.succeeded()
        self.failing_since = None
        self._forget()

    @precondition(lambda self: self.out is not None)
    @rule(spread=st.floats(-1, 1), hold=st.none() | st.floats(0, 1e6))
    def fail(self, spread: float, hold: float | None) -> None:
        """It does not."""
        assert self.out
        self.spread = spread
        number, tries = self.out.number, self.tries[self.out.number]
        fate = self.schedule.failed(self.now, hold)
        if self.failing_since is None:
            self.failing_since = self.now
        if hold is not None:
            self.held_until = max(self.held_until, self.now + min(hold, MAX_HOLD))
        if tries <= len(DELAYS):
            assert fate is Fate.AGAIN
            self.earliest[number] = self.now + DELAYS[tries - 1] * (1 + SPREAD * spread)
            self.out = None
            return
        assert tries == len(DELAYS) + 1
        day_over = self.now - self.failing_since >= PAUSE_SECONDS
        assert fate is (Fate.PAUSE if day_over else Fate.GIVEN_UP)
        self._forget()

    def _forget(self) -> None:
        assert self.out
        del self.tries[self.out.number], self.sizes[self.out.number]
        self.out = None

    @invariant()
    def counts(self) -> None:
        """What waits is what was taken in and has neither arrived nor been given up."""
        assert len(self.schedule) == len(self.sizes) <= MAX_WAITING
        assert self.schedule.bytes == sum(self.sizes.values()) <= MAX_BYTES
        assert self.schedule.failing_since == self.failing_since

    @invariant()
    def wakes(self) -> None:
        """Whoever sleeps until the next time misses nothing."""
        at = self.schedule.next_time()
        if self.out or not self.earliest:
            assert at is None
        else:
            assert at == max(min(self.earliest.values()), self.held_until)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
test_machine = Machine.TestCase
