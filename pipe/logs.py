"""Logging: structlog, a line for people or a JSON object for machines, on stderr.

No client can fill the disk with it: lines of one kind have a limited rate, the next line counts the
ones left out (``suppressed=N``), and the parts of a line that a client chooses are bounded.  If the
disk is full anyway, or the reader of the log is gone, lines are lost and nothing else: the code
that logs goes on.
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
"""This many seconds' worth of lines may come at once: many clients restarting is not a flood."""

REPORT_SECONDS = 10.0
"""How long after the first line left out to log their number, if no other line does."""

MAX_KINDS = 1000
"""Kinds of lines to tell apart.  There are some dozens; any beyond this count as one."""

MAX_VALUE_LENGTH = 200
"""Characters of one value: a client chooses its user name and the text of its disconnect."""


_FIRST = ("timestamp", "level", "event")
"""The fields that every line has; they come first."""


class Throttle:
    """A token bucket for each kind of log line.  Thread-safe.

    Args:
        rate: lines of one kind per second; 0 for no limit.
        clock: seconds.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = rate * BURST_SECONDS
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, float]] = {}  # tokens, and the time of that count
        self._suppressed: dict[str, int] = {}

    def admits(self, kind: str) -> bool:
        """Return whether one more line of this kind may be written; if not, count it."""
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
        """Return how many lines of a kind were left out since the last call."""
        with self._lock:
            return self._suppressed.pop(kind, 0)

    def suppressed_kinds(self) -> list[str]:
        """Return the kinds with lines left out that are not reported yet."""
        with self._lock:
            return list(self._suppressed)


class _Output:
    """A stream that drops what it cannot write, and raises nothing.

    Each line is one write, so that those of several workers do not run into each other where
    Python does not buffer.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with contextlib.suppress(OSError):
            self._stream.flush()


class _Limit:
    """The throttle as a structlog processor and as a filter for the standard library's logging."""

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
        """Check a line that asyncssh or asyncio writes."""
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
            return  # on another thread: the next line of the kind reports it
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
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=output, format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(limit.filter)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


def _put_first(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Let every object begin alike, for people who read the raw lines."""
    return {key: event[key] for key in _FIRST if key in event} | dict(event)


def _leave_out_empty(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Leave out empty fields in lines for people; machines get all of them."""
    return {key: value for key, value in event.items() if value or key == "event"}


def _escape_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Escape values, as clients choose names and versions, which could hold terminal escapes."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            cut = value if len(value) <= MAX_VALUE_LENGTH else value[:MAX_VALUE_LENGTH] + "…"
            event[key] = escape(cut)
    return event
