"""Logging: structlog, a line for people or a JSON object for machines, on stderr.

No client can fill the disk with it: lines of one kind come at a limited rate, those left out are
counted in the next one (``suppressed=N``), and what a client can choose of a line has a bound.
Where the disk is full all the same, or whoever reads the lines is gone, they are lost, and nothing
else is: what logs a line goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import structlog

from pipe.language.names import escape
from pipe.settings import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import TextIO

    from pipe.settings import Settings


BURST_SECONDS = 10.0
"""So many seconds' worth of lines may come at once: a restart of many clients is no flood."""

REPORT_SECONDS = 10.0
"""How long after the first line left out their number is logged, if no other line does it."""

MAX_KINDS = 1000
"""Kinds of lines that are told apart.  There are some dozens; more are counted as one."""

MAX_VALUE_LENGTH = 200
"""Characters of one value: a client chooses its user name and the text of its disconnect."""


_FIRST = ("timestamp", "level", "event")
"""What every line has; it stands before what only some have."""


class Throttle:
    """A token bucket for each kind of log line.  May be used from any thread.

    Args:
        rate: lines of one kind per second; 0: no limit.
        clock: seconds.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = rate * BURST_SECONDS
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, float]] = {}  # tokens, and when there were so many
        self._suppressed: dict[str, int] = {}

    def admits(self, kind: str) -> bool:
        """Whether one more line of this kind may be written; one that may not is counted."""
        if not self._rate:
            return True
        with self._lock:
            if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
                kind = ""
            now = self._clock()
            tokens, then = self._kinds.get(kind, (self._burst, now))
            tokens = min(self._burst, tokens + (now - then) * self._rate)
            admitted = tokens >= 1
            self._kinds[kind] = (tokens - admitted, now)
            if not admitted:
                self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return admitted

    def take_suppressed(self, kind: str) -> int:
        """How many lines of a kind were left out since the last call."""
        with self._lock:
            return self._suppressed.pop(kind, 0)

    def suppressed_kinds(self) -> list[str]:
        """The kinds of which lines were left out and not told yet."""
        with self._lock:
            return list(self._suppressed)


class _Output:
    """A stream that loses what it cannot write, and raises nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, or lose it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Have it written now, if it can be."""
        with contextlib.suppress(OSError):
            self._stream.flush()


class _Limit:
    """The throttle as a step of structlog, and as a filter of the standard library's logging."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._reporting = False

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        kind = str(event.get("event", ""))
        if not self._throttle.admits(kind):
            self._report_later()
            raise structlog.DropEvent
        if suppressed := self._throttle.take_suppressed(kind):
            event["suppressed"] = suppressed
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """Judge a line that asyncssh or asyncio writes."""
        if self._throttle.admits(f"{record.name}: {record.msg}"):
            return True
        self._report_later()
        return False

    def _report_later(self) -> None:
        if self._reporting:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # on another thread: the next line of the kind tells
        self._reporting = True
        loop.call_later(REPORT_SECONDS, self._report)

    def _report(self) -> None:
        self._reporting = False
        for kind in self._throttle.suppressed_kinds():
            if count := self._throttle.take_suppressed(kind):
                structlog.get_logger().warning("log lines left out", kind=kind, count=count)


def configure(settings: Settings) -> None:
    """Set up logging for the whole process.

    asyncssh logs each packet's fate at debug level and each channel's at info; only its warnings
    get through.
    """
    level = logging.getLevelNamesMapping()[settings.log_level.value.upper()]
    limit = _Limit(Throttle(settings.log_rate))
    output = cast("TextIO", _Output(sys.stderr))
    format_line: list[structlog.typing.Processor]
    if settings.log_format is LogFormat.JSON:
        format_line = [_put_first, structlog.processors.JSONRenderer()]
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False)
        format_line = [_leave_out_empty, renderer]
    structlog.configure(
        processors=[
            limit,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _escape_values,
            structlog.processors.format_exc_info,
            *format_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=output, format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(limit.filter)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


def _put_first(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Let every object begin alike, for those who read them as they are."""
    return {key: event[key] for key in _FIRST if key in event} | dict(event)


def _leave_out_empty(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Spare people the fields that say nothing; what machines read has them all."""
    return {key: value for key, value in event.items() if value or key == "event"}


def _escape_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Names and versions come from clients: no terminal escape of theirs reaches the operator's."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            cut = value if len(value) <= MAX_VALUE_LENGTH else value[:MAX_VALUE_LENGTH] + "…"
            event[key] = escape(cut)
    return event
