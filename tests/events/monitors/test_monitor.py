"""A monitor by a clock that tests move: through all its states, and never a needless alert."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipe.events.monitors.monitor import LEAST_STAY, PATIENCE, Change, Monitor, State, about
from pipe.language.monitor_requests import On, Terms

HOUR, MINUTE = 3600.0, 60.0
HOURLY = Terms(HOUR, 6 * MINUTE)
BY_END = Terms(HOUR, 6 * MINUTE, On.END)


class Clock:
    """A monitor, and the time that it is told; it looks when it says that it wants to."""

    def __init__(self, terms: Terms, now: float = 1_000_000.0) -> None:
        self.now = now
        self.monitor = Monitor(terms, now)
        self.changes: list[Change] = []

    def note(self, change: Change | None) -> None:
        """Keep what has changed, and look again if that is due."""
        self._keep(change)
        self.wait(0.0)

    def _keep(self, change: Change | None) -> None:
        if change:
            self.changes.append(change)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while (at := self.monitor.next_at) is not None and at <= until:
            self.now = max(self.now, at)
            before = self.monitor.next_at
            self._keep(self.monitor.look(self.now))
            assert self.monitor.next_at != before or self.monitor.next_at is None, "it would spin"
        self.now = until

    def publish(self, size: int = 1) -> None:
        """Bytes come."""
        self.note(self.monitor.publish(self.now, size))

    def end(self, status: int = 0, *, broken: bool = False) -> None:
        """A publisher ends."""
        self.note(self.monitor.end(self.now, status, broken=broken))

    def restart(self, away: float) -> None:
        """The server is away for a while."""
        memory = json.loads(json.dumps(self.monitor.dump()))
        self.now += away
        self.monitor = Monitor(self.monitor.terms, self.now, memory)
        self.note(self.monitor.come_back(self.now, away))

    def state(self) -> State:
        """How it is."""
        return self.monitor.state

    @property
    def alerts(self) -> list[tuple[State, str]]:
        """What people are told."""
        return [(change.state, change.reason) for change in self.changes if change.alert]

    @property
    def history(self) -> list[State]:
        """What is kept."""
        return [change.state for change in self.changes if change.lasting]


def test_through_its_states() -> None:
    """New, up, late, down and up again: two alerts, of which each says why."""
    clock = Clock(HOURLY)
    clock.wait(10 * HOUR)
    assert clock.state() is State.NEW
    clock.publish()
    assert clock.state() is State.UP
    clock.wait(HOUR)
    assert clock.state() is State.LATE
    assert clock.alerts == []
    clock.wait(6 * MINUTE)
    assert clock.state() is State.DOWN
    clock.wait(30 * HOUR)
    clock.publish()
    assert clock.alerts == [
        (State.DOWN, "nothing has come for 1h6m, and it is expected every 1h"),
        (State.UP, "something came, after 1d6h"),
    ]
    assert clock.history == [State.UP, State.DOWN, State.UP]


def test_the_window_slides() -> None:
    """A job that is a little later each time is never down."""
    clock = Clock(HOURLY)
    for _ in range(50):
        clock.publish()
        clock.wait(HOUR + 5 * MINUTE)
        assert clock.state() is State.LATE
    assert clock.alerts == []
    assert clock.history == [State.UP]


@pytest.mark.parametrize(
    ("status", "broken", "reason"),
    [(3, False, "a publisher ended with status 3"), (0, True, "a publisher broke off")],
)
def test_a_failure_is_down_at_once(status: int, broken: bool, reason: str) -> None:
    """It is told once, although silence follows; an end that is good ends it."""
    clock = Clock(BY_END)
    clock.end()
    clock.wait(HOUR / 2)
    clock.end(status, broken=broken)
    assert clock.state() is State.DOWN
    assert clock.monitor.seen == clock.now
    clock.wait(20 * HOUR)
    assert clock.alerts == [(State.DOWN, reason)]
    clock.end()
    assert clock.state() is State.UP
    assert len(clock.alerts) == 2


def test_bytes_are_no_end() -> None:
    """By ends, a stream that goes on for ever is down; by bytes, how one ends does not matter."""
    by_end, by_bytes = clocks = [Clock(BY_END), Clock(HOURLY)]
    for clock in clocks:
        clock.end()
        for _ in range(20):
            clock.wait(HOUR / 10)
            clock.publish()
    by_bytes.end(3)
    by_bytes.end(0, broken=True)
    assert [clock.state() for clock in clocks] == [State.DOWN, State.UP]
    assert by_end.alerts
    assert by_bytes.alerts == []


def test_an_empty_stream_is_a_sign_of_life() -> None:
    """``pub -e`` keeps a monitor up that waits for bytes."""
    clock = Clock(HOURLY)
    clock.end()
    assert clock.state() is State.UP


def test_no_alert_from_new() -> None:
    """What never was up raises no alert, even if its first stream fails."""
    clock = Clock(BY_END)
    clock.end(3)
    assert clock.state() is State.DOWN
    clock.wait(100 * HOUR)
    clock.end()
    assert clock.state() is State.UP
    assert clock.alerts == []


def test_reminders() -> None:
    """While it is down, that is told again and again; after that not."""
    clock = Clock(dataclasses.replace(HOURLY, remind=2 * HOUR))
    clock.publish()
    clock.wait(HOUR + 6 * MINUTE + 5 * HOUR)
    assert [state for state, _ in clock.alerts] == [State.DOWN] * 3
    assert clock.history == [State.UP, State.DOWN]
    clock.publish()
    clock.wait(HOUR)
    assert len(clock.alerts) == 4


def test_too_few_bytes() -> None:
    """A backup of half the size is down once the grace is over, and says what came."""
    clock = Clock(Terms(24 * HOUR, HOUR, min_bytes=100_000))
    for _ in range(10):
        clock.publish(15_000)
        clock.wait(MINUTE)
    assert clock.state() is State.UP
    clock.wait(24 * HOUR - 10 * MINUTE)
    for _ in range(10):
        clock.publish(6_000)
        clock.wait(MINUTE)
    clock.wait(2 * HOUR)
    assert clock.state() is State.DOWN
    [(_, reason)] = clock.alerts
    assert reason == "60,000 bytes came in 1d, and there should be at least 100,000"
    clock.publish(50_000)
    assert clock.state() is State.UP


def test_too_low_a_rate() -> None:
    """A stream that trickles is down; one that is fast enough on average is not."""
    clock = Clock(Terms(HOUR, 6 * MINUTE, min_rate=10))
    for size, state in ((900, State.UP), (300, State.DOWN), (900, State.UP)):
        for _ in range(200):
            clock.publish(size)
            clock.wait(MINUTE)
        assert clock.state() is state
    assert "5.0 bytes per second came in 1h" in clock.alerts[0][1] or (
        "bytes per second came in 1h, and there should be at least 10" in clock.alerts[0][1]
    )
    assert len(clock.alerts) == 2


def test_bytes_and_an_end() -> None:
    """With both, a good end of an empty stream is not enough."""
    clock = Clock(dataclasses.replace(BY_END, min_bytes=10))
    clock.end()
    assert clock.state() is State.NEW
    clock.publish(10)
    assert clock.state() is State.UP
    for _ in range(3):
        clock.wait(HOUR / 2)
        clock.end()
    assert clock.state() is State.DOWN


def test_pause_and_resume() -> None:
    """Paused it is silent, whatever comes; resumed its window begins then, and it is unknown."""
    clock = Clock(HOURLY)
    clock.publish()
    clock.note(clock.monitor.pause(clock.now))
    clock.wait(100 * HOUR)
    clock.publish()
    assert (clock.state(), clock.monitor.reason) == (State.PAUSED, "paused by its user")
    clock.note(clock.monitor.resume(clock.now))
    assert clock.state() is State.UNKNOWN
    clock.wait(HOUR + 5 * MINUTE)
    assert clock.state() is State.UNKNOWN
    clock.wait(MINUTE)
    assert [state for state, _ in clock.alerts] == [State.DOWN]


def test_resumed_before_anything_came() -> None:
    """It is new then, and still raises no alert."""
    clock = Clock(HOURLY)
    clock.note(clock.monitor.pause(clock.now))
    clock.note(clock.monitor.resume(clock.now))
    clock.wait(100 * HOUR)
    assert clock.state() is State.NEW


def test_locked_out() -> None:
    """The end of the right to read is told, since a monitor that does not watch is no comfort."""
    clock = Clock(HOURLY)
    clock.publish()
    clock.note(clock.monitor.lock_out(clock.now))
    clock.note(clock.monitor.lock_out(clock.now))
    assert clock.state() is State.PAUSED
    [(state, reason)] = clock.alerts
    assert state is State.PAUSED
    assert "may not read" in reason


def test_the_server_was_away() -> None:
    """What should have come meanwhile is unknown, and gets some minutes to come now."""
    clock = Clock(HOURLY)
    clock.publish()
    clock.restart(10 * HOUR)
    assert clock.state() is State.UNKNOWN
    clock.wait(PATIENCE - 1)
    assert clock.alerts == []
    clock.wait(1)
    assert clock.state() is State.DOWN
    clock = Clock(HOURLY)
    clock.publish()
    clock.restart(10 * HOUR)
    clock.publish()
    assert clock.state() is State.UP
    assert clock.alerts == []


def test_the_server_was_away_for_a_moment() -> None:
    """A restart within the window changes nothing, and what was down is not told again."""
    clock = Clock(HOURLY)
    clock.publish()
    clock.restart(5.0)
    assert clock.state() is State.UP
    clock.wait(2 * HOUR)
    clock.restart(5.0)
    assert clock.state() is State.DOWN
    clock.wait(2 * HOUR)
    assert len(clock.alerts) == 1


def test_a_sign_of_life_just_before_the_server_went_away() -> None:
    """What was told to be down, and came too late to be told up, is unknown, and then told up."""
    clock = Clock(HOURLY)
    clock.publish()
    clock.wait(HOUR + 6 * MINUTE)
    clock.publish()
    assert clock.state() is State.DOWN
    clock.restart(2 * HOUR)
    assert clock.state() is State.UNKNOWN
    clock.publish()
    assert [state for state, _ in clock.alerts] == [State.DOWN, State.UP]


def test_what_was_down_is_told_up_before_it_is_late() -> None:
    """A good end after a failure ends that, even if too few bytes have come for long."""
    clock = Clock(dataclasses.replace(BY_END, min_bytes=10))
    clock.publish(10)
    clock.end()
    clock.wait(HOUR / 2)
    clock.end(3)
    clock.wait(HOUR / 2)
    clock.end()
    assert clock.state() is State.LATE
    assert [state for state, _ in clock.alerts] == [State.DOWN, State.UP]
    clock.wait(HOUR)
    assert clock.state() is State.DOWN


def test_bytes_before_the_server_was_away_count() -> None:
    """Nobody could send meanwhile, so the window is longer by that."""
    clock = Clock(Terms(24 * HOUR, HOUR, min_rate=1))
    for _ in range(30):
        clock.publish(2 * 3600)
        clock.wait(HOUR)
    clock.restart(10 * HOUR)
    for _ in range(30):
        clock.publish(2 * 3600)
        clock.wait(HOUR)
    assert clock.alerts == []


def test_the_clock_was_put_back() -> None:
    """Nothing is left in the future, and the window begins at the latest now."""
    clock = Clock(HOURLY)
    clock.publish()
    clock.now -= 5 * HOUR
    clock.note(clock.monitor.come_back(clock.now, -5 * HOUR))
    assert clock.monitor.seen == clock.now
    clock.wait(HOUR + 6 * MINUTE)
    assert clock.state() is State.DOWN


def test_other_terms() -> None:
    """They count from then on: what is down by the old ones alone is up, the rest stays."""
    clock = Clock(HOURLY)
    clock.publish()
    clock.wait(5 * HOUR)
    clock.note(clock.monitor.change_terms(clock.now, dataclasses.replace(HOURLY, grace=HOUR)))
    assert clock.state() is State.DOWN
    clock.note(clock.monitor.change_terms(clock.now, dataclasses.replace(HOURLY, every=9 * HOUR)))
    assert (clock.state(), clock.monitor.reason) == (State.UP, "its terms have changed")
    clock.note(clock.monitor.change_terms(clock.now, HOURLY))
    clock.wait(PATIENCE - 1)
    assert clock.state() is State.LATE


def test_swings_are_bounded() -> None:
    """A thousand failures and successes in ten seconds are no more than ten changes."""
    clock = Clock(BY_END)
    clock.end()
    for number in range(1000):
        clock.end(number % 2)
        clock.wait(0.01)
    clock.wait(2.0)
    assert len(clock.history) <= 12
    assert clock.state() is State.DOWN


def test_about() -> None:
    """Durations are told without what does not matter."""
    assert [about(s) for s in (0.4, 90.2, 3665, 100_000)] == ["0s", "1m30s", "1h1m", "1d4h"]


terms = st.builds(
    Terms,
    every=st.sampled_from([30.0, 600.0, HOUR]),
    grace=st.sampled_from([0.0, 30.0, HOUR]),
    on=st.sampled_from(On),
    remind=st.sampled_from([0.0, 45.0]),
    min_bytes=st.sampled_from([0, 50]),
)
waits = st.sampled_from([0.0, 0.3, 1.0, 29.0, 30.0, 31.0, 299.0, 600.0, 3000.0, 8000.0])


class Life(RuleBasedStateMachine):
    """Whatever happens, in whatever order, the promises hold."""

    clock: Clock

    @initialize(terms=terms)
    def begin(self, terms: Terms) -> None:
        """A monitor begins."""
        self.clock = Clock(terms)
        self.was_up = False
        self.patient_until = 0.0
        self.sign: float | None = None
        self.checked = 0
        self.last_swing = 0.0
        self.told = State.UP

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.wait(seconds)

    @rule(size=st.sampled_from([1, 20, 60]))
    def publish(self, size: int) -> None:
        """Bytes come."""
        if self.clock.monitor.terms.on is On.BYTES and self.clock.state() is not State.PAUSED:
            self.sign = self.clock.now
        self.clock.publish(size)

    @rule(status=st.sampled_from([0, 3]), broken=st.booleans())
    def end(self, status: int, *, broken: bool) -> None:
        """A publisher ends."""
        good = not status and not broken
        by_bytes = self.clock.monitor.terms.on is On.BYTES
        if (good or by_bytes) and self.clock.state() is not State.PAUSED:
            self.sign = self.clock.now
        self.clock.end(status, broken=broken)

    @rule()
    def pause(self) -> None:
        """The user pauses it."""
        self.clock.note(self.clock.monitor.pause(self.clock.now))
        self.told = State.UP

    @precondition(lambda self: self.clock.state() is State.PAUSED)
    @rule()
    def resume(self) -> None:
        """The user resumes it."""
        self.sign = self.clock.now if self.sign is not None else None
        self.clock.note(self.clock.monitor.resume(self.clock.now))

    @rule(away=waits)
    def restart(self, away: float) -> None:
        """The server is away."""
        self.clock.restart(away)
        every = self.clock.monitor.terms.every
        self.patient_until = self.clock.now + min(every, PATIENCE)

    @invariant()
    def every_change_is_due(self) -> None:
        """No alert before it was up, none twice, none too early; swings take their time."""
        for change in self.clock.changes[self.checked :]:
            if change.alert and change.lasting:
                assert self.was_up
                assert change.state is not self.told
                self.told = change.state
            if change.lasting and {change.state, change.was} == {State.UP, State.DOWN}:
                assert change.at >= self.last_swing + LEAST_STAY
            if change.lasting:
                self.last_swing = change.at
            if change.state is State.DOWN and change.lasting and "expected" in change.reason:
                assert change.at >= self.patient_until
            self.was_up = self.was_up or change.state is State.UP
        self.checked = len(self.clock.changes)

    @invariant()
    def it_wants_to_look_in_time(self) -> None:
        """The next look is in the future."""
        at = self.clock.monitor.next_at
        assert at is None or at > self.clock.now or at == pytest.approx(self.clock.now)

    @invariant()
    def up_means_that_it_came(self) -> None:
        """Up is what had its sign of life within the window, or has it to prove soon."""
        monitor, terms = self.clock.monitor, self.clock.monitor.terms
        if monitor.state is State.UP:
            assert self.sign is not None
            assert self.clock.now < max(self.sign, monitor.since) + terms.every + LEAST_STAY
        if monitor.state is State.NEW:
            assert not self.was_up


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
