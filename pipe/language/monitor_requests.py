"""The requests and commands about monitors; `requests` includes them.

Users of pico's ``pipe`` know other words for some of them, which `spell_out` makes ours.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from pipe.errors import UsageError
from pipe.language.durations import SECONDS_PER_DAY, format_duration, parse_duration
from pipe.language.flags import Argument, Command, Flag, boolean, one_of
from pipe.language.sizes import GIB, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIN_WINDOW = 30.0
"""Seconds: what comes more often is better watched by whoever reads it."""

MAX_WINDOW = 366.0 * SECONDS_PER_DAY
"""Seconds: a year, and a leap day."""

GRACE_SHARE = 0.1
MIN_GRACE = 30.0
"""Grace by default: a tenth of the window, and at least so many seconds for a slow start."""

MAX_BYTES = GIB << 20
"""Bytes that a window may have to bring."""

_DATE_LENGTH = len("2026-01-31")
_VERBS = frozenset({"add", "rm", "pause", "resume"})


class On(enum.Enum):
    """What a monitor takes for a sign of life: anything that is sent, or a stream's good end."""

    BYTES = "bytes"
    END = "end"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a monitor expects; times in seconds, the rate in bytes per second.

    Within ``every`` there is a sign of life, and there are ``min_bytes``, and so many as ``rate``
    makes of the window.  ``grace`` later that is a failure.  Without ``remind`` it is told once.
    """

    every: float
    grace: float
    on: On = On.BYTES
    remind: float = 0.0
    min_bytes: int = 0
    min_rate: int = 0

    @property
    def need(self) -> int:
        """The bytes that each window has to bring."""
        return max(self.min_bytes, math.ceil(self.min_rate * self.every))


@dataclass(frozen=True, slots=True)
class AddMonitor:
    """``monitor add``: watch a topic, or change the terms; the topics are as the user wrote them.

    Times are in seconds.
    """

    topic: str
    every: float | None = None
    grace: float | None = None
    on: On = On.BYTES
    min_bytes: int | None = None
    min_rate: int | None = None
    alert: str | None = None
    remind: float | None = None

    @property
    def terms(self) -> Terms:
        """What is expected, with the defaults for what was not said.

        Raises:
            UsageError: the window is missing.
        """
        every, grace = self.every, self.grace
        if every is None:
            raise UsageError("say how often something comes: monitor add TOPIC --every 1h")
        if grace is None:
            grace = max(MIN_GRACE, GRACE_SHARE * every)
        return Terms(
            every, grace, self.on, self.remind or 0.0, self.min_bytes or 0, self.min_rate or 0
        )


@dataclass(frozen=True, slots=True)
class RemoveMonitor:
    """``monitor rm``: watch a topic no more, and forget how it was."""

    topic: str


@dataclass(frozen=True, slots=True)
class PauseMonitor:
    """``monitor pause``: expect nothing for now."""

    topic: str


@dataclass(frozen=True, slots=True)
class ResumeMonitor:
    """``monitor resume``: expect it again, from now on."""

    topic: str


@dataclass(frozen=True, slots=True)
class ListMonitors:
    """``monitors``: the caller's monitors."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class ShowStatus:
    """``status``: the same in short, with an exit status that says whether one is down."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class ShowUptime:
    """``uptime``: how much of the time it was up; ``start`` and ``end`` in seconds since 1970."""

    topic: str | None = None
    start: float | None = None
    end: float | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse a time that runs backwards."""
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError("--from comes before --to")


@dataclass(frozen=True, slots=True)
class ShowFeeds:
    """``monitors feed``: the addresses of feed, badge and status page."""

    renew: bool = False
    json: bool = False


MonitorRequest: TypeAlias = (
    AddMonitor
    | RemoveMonitor
    | PauseMonitor
    | ResumeMonitor
    | ListMonitors
    | ShowFeeds
    | ShowStatus
    | ShowUptime
)


def spell_out(words: Sequence[str]) -> list[str]:
    """Make ``monitor TOPIC DUR``, ``monitor TOPIC -d`` and ``rss`` of pico's ``pipe`` ours."""
    first, *rest = words or [""]
    if first == "rss":
        return ["monitors", "feed", *rest]
    if first != "monitor" or (rest and rest[0] in _VERBS):
        return list(words)
    topics = [word for word in rest if word not in {"-d", "--delete"}]
    if len(topics) < len(rest):
        return ["monitor", "rm", *topics]
    if len(rest) > 1 and rest[1][:1].isdigit():
        return ["monitor", "add", rest[0], "--every", *rest[1:]]
    if not rest or rest[0].startswith("-"):
        return ["monitors", *rest]
    return list(words)


def _window(text: str) -> float:
    return _within(MIN_WINDOW, text)


def _grace(text: str) -> float:
    return _within(0.0, text)


def _within(least: float, text: str) -> float:
    seconds = parse_duration(text)
    if least <= seconds <= MAX_WINDOW:
        return seconds
    raise UsageError(
        f"it takes {format_duration(least)} to {format_duration(MAX_WINDOW)}, such as 90s, 1h or 7d"
    )


def _bytes(text: str) -> int:
    size = parse_size(text)
    if 0 < size <= MAX_BYTES:
        return size
    raise UsageError("it takes 1 byte to 1 PiB, such as 64KiB or 1GiB")


def _moment(*, day_ends: bool) -> Callable[[str], float]:
    """Make a reader for a date or a time in UTC; a date is the day's begin, or its end."""

    def convert(text: str) -> float:
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            if day_ends and len(text) <= _DATE_LENGTH:
                moment += timedelta(days=1)
            seconds = moment.timestamp()
        except (ValueError, OverflowError):
            seconds = -1.0
        if seconds < 0:
            raise UsageError("it takes a date or a time in UTC: 2026-01-31 or 2026-01-31T18:00")
        return seconds

    return convert


_TOPIC = (Argument("topic", "TOPIC", required=True),)
_JSON = (Flag("json", "--json", boolean, "print JSON"),)
_ON_TEXT = "what counts: bytes, or the end of a stream with status 0"

MONITOR_COMMANDS = (
    Command(
        "monitor add",
        AddMonitor,
        "watch a topic, and raise an alert once it is silent",
        "Whoever publishes there needs nothing but 'pub -b=false'. The window slides: it begins"
        " anew with what comes. There is no alert for a topic where nothing has come yet. Adding"
        " it again changes the terms.",
        _TOPIC,
        (
            Flag("every", "--every", _window, "the window: how often it comes", "DUR"),
            Flag("grace", "--grace", _grace, "how late it may be (a tenth, 30s)", "DUR"),
            Flag("on", "--on", one_of(On), _ON_TEXT, "WHAT"),
            Flag("min_bytes", "--min-bytes", _bytes, "what a window has to bring", "SIZE"),
            Flag("min_rate", "--min-rate", _bytes, "the same per second, on average", "SIZE"),
            Flag("alert", "--alert", str, "where alerts go (your topic alerts)", "TOPIC"),
            Flag("remind", "--remind", _window, "tell again while it is down", "DUR"),
        ),
    ),
    Command("monitor rm", RemoveMonitor, "end a monitor, and forget how it was", "", _TOPIC),
    Command("monitor pause", PauseMonitor, "expect nothing for now", "", _TOPIC),
    Command("monitor resume", ResumeMonitor, "expect it again, from now on", "", _TOPIC),
    Command(
        "monitors",
        ListMonitors,
        "list your monitors, and how they are",
        "'monitor add' makes one; 'monitor rm', 'pause' and 'resume' do what they say.",
        flags=_JSON,
    ),
    Command(
        "monitors feed",
        ShowFeeds,
        "print the addresses of their feed, badge and page",
        "Whoever has an address sees what it shows, without an account.",
        flags=(
            Flag("renew", "--renew", boolean, "make new ones; the old ones end"),
            *_JSON,
        ),
    ),
    Command(
        "status",
        ShowStatus,
        "show how your monitors are; exit with 1 if one is down",
        flags=_JSON,
    ),
    Command(
        "uptime",
        ShowUptime,
        "show how much of the time they were up",
        "By default over 24 hours, 7, 30 and 90 days. Time when a monitor was paused, or the"
        " server away, counts as neither.",
        (Argument("topic", "TOPIC"),),
        (
            Flag("start", "--from", _moment(day_ends=False), "from this time on", "DATE"),
            Flag("end", "--to", _moment(day_ends=True), "up to this time", "DATE"),
            *_JSON,
        ),
    ),
)
"""The commands, in the order that help lists them."""
