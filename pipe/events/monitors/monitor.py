"""Monitors: what is expected of a topic, and how it is, as a state machine without a clock.

    NEW      nothing has come yet: no alert ever comes from here
    UP       it came as expected
    LATE     the window is over, the grace is not: shown, and told nobody
    DOWN     it did not come, or a stream failed
    UNKNOWN  nobody watched when it should have come: the server was away, or it was paused
    PAUSED   nothing is expected

Rules:

- The window slides: it begins with the last sign of life (`On`).  If a window has to bring bytes,
  it begins with the oldest byte that is needed.
- A stream that fails is DOWN at once (only with `On.END`), until one ends well.  It counts as seen,
  so its silence afterwards is no second failure.
- Who is DOWN comes UP by a sign of life alone, or by other terms.
- After the server was away nothing is DOWN earlier than `PATIENCE` later, or one window later if
  that is less.  What was DOWN before stays so.
- UP and DOWN last for at least `LEAST_STAY`; what comes sooner is judged when that is over.  So
  nobody can have a thousand alerts in a second.
- An alert tells of DOWN, of UP after a DOWN that was told, and of the end of the right to read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipe.events.monitors.meter import Meter
from pipe.language.durations import SECONDS_PER_DAY, format_duration
from pipe.language.monitor_requests import On

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.language.monitor_requests import Terms

PATIENCE = 300.0
"""Seconds that publishers get to come back after the server was away."""

LEAST_STAY = 1.0
"""Seconds."""

_NOTHING_YET = "nothing has come yet"
_AWAY = "it should have come while the server was away"
_RESUMED = "resumed, and nothing has come since"
_OTHER_TERMS = "its terms have changed"
_PAUSED = "paused by its user"
_LOCKED_OUT = "its user may not read the topic any more; 'monitor resume' watches it again"


class State(enum.Enum):
    """How a monitor is; see the module docstring."""

    NEW = "new"
    UP = "up"
    LATE = "late"
    DOWN = "down"
    UNKNOWN = "unknown"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Change:
    """A monitor is in another state, or a reminder is due; times in seconds since 1970."""

    at: float
    state: State
    was: State
    since: float
    seen: float | None
    reason: str
    alert: bool
    """Whether to tell people."""

    @property
    def lasting(self) -> bool:
        """Whether it belongs into the history: being late does not, as it counts as up."""
        return self.state is not self.was


class Monitor:
    """One topic's monitor.

    All calls take the time in seconds since 1970.  A call that may change the state returns the
    change, or None; `next_at` says when to call `look` at the latest.

    Args:
        terms: What is expected.
        now: The time.
        memory: What `dump` returned, to go on with that.
    """

    __slots__ = (
        "_again",
        "_begun",
        "_ended",
        "_expired",
        "_failure",
        "_floor",
        "_known",
        "_meter",
        "_paused",
        "_reminded",
        "_told",
        "_was_up",
        "reason",
        "seen",
        "since",
        "state",
        "terms",
    )

    def __init__(self, terms: Terms, now: float, memory: Mapping[str, Any] | None = None) -> None:
        found = memory or {}
        self.terms = terms
        self.state = State(found.get("state", State.NEW.value))
        self.since: float = found.get("since", now)
        self.reason: str = found.get("reason", _NOTHING_YET)
        self.seen: float | None = found.get("seen")
        self._begun: float | None = found.get("begun")  # the window
        self._ended: float | None = found.get("ended")  # the last stream that ended well
        self._failure: str = found.get("failure", "")
        self._paused: str = found.get("paused", "")
        self._expired: bool = found.get("expired", False)  # the window, while DOWN
        self._known: bool = found.get("known", True)  # else nobody watched when it was over
        self._was_up: bool = found.get("was_up", False)
        self._told: bool = found.get("told", False)  # that it is DOWN
        self._reminded: float = found.get("reminded", now)
        self._floor = 0.0  # nothing is DOWN by silence before
        self._again: float | None = None  # when a change is due that came too soon
        self._meter = Meter(terms.every, found.get("meter", ()))

    def dump(self) -> dict[str, Any]:
        """What a monitor has to remember, as JSON takes it."""
        return {
            "state": self.state.value,
            "since": self.since,
            "reason": self.reason,
            "seen": self.seen,
            "begun": self._begun,
            "ended": self._ended,
            "failure": self._failure,
            "paused": self._paused,
            "expired": self._expired,
            "known": self._known,
            "was_up": self._was_up,
            "told": self._told,
            "reminded": self._reminded,
            "meter": self._meter.dump(),
        }

    # -- what happens -----------------------------------------------------------------------------

    def publish(self, now: float, size: int, last: float | None = None) -> Change | None:
        """Take note of bytes that have come.

        Args:
            now: The time.
            size: How many.
            last: When the last of them came, if that was before.
        """
        if self._paused:
            return None
        self.seen = now if last is None else last
        if self.terms.need:
            self._meter.add(self.seen, size)
        self._begin_window()
        return self.look(now)

    def end(self, now: float, status: int, *, broken: bool) -> Change | None:
        """Take note of a publisher that is gone."""
        if self._paused:
            return None
        self.seen = now
        if not status and not broken:
            self._ended = now
            self._failure = ""
        elif self.terms.on is On.END:
            self._failure = (
                "a publisher broke off" if broken else f"a publisher ended with status {status}"
            )
        self._begin_window()
        return self.look(now)

    def look(self, now: float) -> Change | None:
        """Let time pass."""
        wanted = self._judge(now)
        if wanted is State.LATE and self.state not in {State.UP, State.LATE}:
            wanted = State.UP  # for a moment: what was down has to be told that it is not
        self._again = None
        if wanted is not self.state:
            if not self._stays(wanted, now):
                return self._change(now, wanted)
            self._again = self.since + LEAST_STAY
            return None
        remind = self.terms.remind
        if wanted is State.DOWN and self._told and remind and now >= self._reminded + remind:
            self._reminded = now
            return Change(now, wanted, wanted, self.since, self.seen, self.reason, alert=True)
        return None

    def pause(self, now: float) -> Change | None:
        """Expect nothing from now on."""
        self._paused = _PAUSED
        self._told = False
        return self.look(now)

    def lock_out(self, now: float) -> Change | None:
        """Expect nothing, as the user may not know what comes."""
        if self._paused:
            return None
        self._paused = _LOCKED_OUT
        return self.look(now)

    def resume(self, now: float) -> Change | None:
        """Expect it again, with a window that begins now."""
        if not self._paused:
            return None
        self._paused = self._failure = ""
        self._expired = False
        if self._begun is not None:
            self._begun = now
            self._known = False
        return self.look(now)

    def change_terms(self, now: float, terms: Terms) -> Change | None:
        """Expect something else from now on; what has come counts, as far as it is known."""
        counts = self._meter.dump() if terms.every == self.terms.every else ()
        self.terms = terms
        self._meter = Meter(terms.every, counts)
        if terms.on is not On.END:
            self._failure = ""
        self._floor = 0.0
        self._expired = self._expired and now >= self._down_at
        self._floor = now + min(terms.every, PATIENCE)
        change = self.look(now)
        if change and change.state is State.UP:
            self.reason = _OTHER_TERMS
            change = replace(change, reason=_OTHER_TERMS)
        return change

    def come_back(self, now: float, away: float) -> Change | None:
        """Go on after nobody has watched for so many seconds; below 0: the clock was put back."""
        if away > 0:
            self._meter.shift(away)
        else:
            self._turn_back(now)
        self._floor = now + min(self.terms.every, PATIENCE)
        over = self._begun is not None and now >= self._begun + self.terms.every
        if over and not self._expired and not self._failure:
            self._known = False
        return self.look(now)

    @property
    def next_at(self) -> float | None:
        """When to look again, whatever comes; None if time alone changes nothing."""
        if self._again is not None:
            return self._again
        match self.state:
            case State.UP if self._begun is not None:
                return self._begun + self.terms.every
            case State.LATE | State.UNKNOWN:
                return self._down_at
            case State.DOWN if self._told and self.terms.remind:
                return self._reminded + self.terms.remind
        return None

    # -- judging ----------------------------------------------------------------------------------

    @property
    def _down_at(self) -> float:
        begun = self._begun or 0.0
        return max(begun + self.terms.every + self.terms.grace, self._floor)

    def _judge(self, now: float) -> State:
        if self._paused:
            return State.PAUSED
        if self._failure:
            return State.DOWN
        if self._begun is None:
            return State.NEW
        if self._expired or now >= self._down_at:
            return State.DOWN
        if not self._known:
            return State.UNKNOWN
        return State.UP if now < self._begun + self.terms.every else State.LATE

    def _stays(self, wanted: State, now: float) -> bool:
        shown = self._shown
        swings = {shown, wanted} == {State.UP, State.DOWN}
        return swings and now < self.since + LEAST_STAY

    @property
    def _shown(self) -> State:
        """The state as the history has it."""
        return State.UP if self.state is State.LATE else self.state

    def _begin_window(self) -> None:
        """Let the window slide to where what is expected began to come."""
        signs = [self._ended if self.terms.on is On.END else self.seen]
        if self.terms.need:
            signs.append(self._meter.since(self.terms.need))
        known = [sign for sign in signs if sign is not None]
        if len(known) < len(signs):
            return
        begin = min(known)
        if self._begun is None or begin > self._begun:
            self._begun = begin
            self._expired = False
            self._known = True

    def _turn_back(self, now: float) -> None:
        """Leave nothing in the future, where the clock was."""
        self.since = min(self.since, now)
        self._reminded = min(self._reminded, now)
        self.seen, self._begun, self._ended = (
            None if when is None else min(when, now)
            for when in (self.seen, self._begun, self._ended)
        )
        self._meter = Meter(
            self.terms.every, [(min(when, now), size) for when, size in self._meter.dump()]
        )

    def _change(self, now: float, state: State) -> Change:
        was = self._shown
        reason = self._why(state, was, now)
        alert = False
        if state is State.DOWN:
            self._expired = not self._failure
            alert = self._was_up and not self._told
            self._told = self._told or alert
            self._reminded = now
        elif state is State.UP:
            alert, self._told = self._told, False
            self._was_up = True
        elif state is State.PAUSED:
            alert = self._paused == _LOCKED_OUT
        self.state, self.reason = state, reason
        if self._shown is not was:
            self.since = now
        return Change(now, self._shown, was, self.since, self.seen, reason, alert)

    def _why(self, state: State, was: State, now: float) -> str:
        match state:
            case State.DOWN:
                return self._failure or self._what_is_missing(now)
            case State.UP:
                sign = "a publisher ended well" if self.terms.on is On.END else "something came"
                return f"{sign}, after {about(now - self.since)}" if was is State.DOWN else sign
            case State.LATE:
                return f"{self._what_is_missing(now)}; there is grace for {about(self.terms.grace)}"
            case State.UNKNOWN:
                return _RESUMED if was is State.PAUSED else _AWAY
            case State.PAUSED:
                return self._paused
            case State.NEW:
                return _NOTHING_YET

    def _what_is_missing(self, now: float) -> str:
        terms = self.terms
        sign = self._ended if terms.on is On.END else self.seen
        if terms.need and sign is not None and sign > now - terms.every - terms.grace:
            total = self._meter.total(now)
            if terms.min_bytes >= terms.need:
                return (
                    f"{total:,} bytes came in {about(terms.every)}, and there should be at least"
                    f" {terms.min_bytes:,}"
                )
            return (
                f"{total / terms.every:,.1f} bytes per second came in {about(terms.every)}, and"
                f" there should be at least {terms.min_rate:,}"
            )
        what = "no publisher has ended well" if terms.on is On.END else "nothing has come"
        ago = f" for {about(now - sign)}" if sign is not None else ""
        return f"{what}{ago}, and it is expected every {about(terms.every)}"


def about(seconds: float) -> str:
    """Write a duration without the parts that do not matter: ``3d4h``, ``1h5m``, ``90s``."""
    if seconds >= SECONDS_PER_DAY:
        unit = 3600
    elif seconds >= 3600:
        unit = 60
    else:
        unit = 1
    return format_duration(round(seconds / unit) * unit)
