"""What a record of `logging`, or an event of structlog, says in the fields of a line.

The names are those of Go's slog: `time`, `level`, `msg`, and `service`, `user`, `logger`, `error`.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from ._lines import LINE_LIMIT, as_text, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN: Final = frozenset(("time", "level", "msg", "logger", "dropped", "cut"))
"""Fields that we fill in: what somebody else calls so gets a `_` after its name."""

STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has: all else was given as `extra`."""

TRACE: Final = {"otelTraceID": "trace_id", "otelSpanID": "span_id"}
"""What OpenTelemetry's instrumentation of `logging` adds to records."""

NO_TRACE: Final = "0"

STRUCTLOG_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}

STRUCTLOG_OWN: Final = frozenset(
    ("event", "level", "logger", "timestamp", "exc_info", "exception", "stack_info")
)


def level_name(level: int) -> str:
    """The one of four levels that stands for a level of `logging`."""
    if level < logging.INFO:
        return "DEBUG"
    if level < logging.WARNING:
        return "INFO"
    return "WARN" if level < logging.ERROR else "ERROR"


def of_record(record: logging.LogRecord, service: str | None) -> dict[str, Any]:
    """The fields of a record."""
    fields: dict[str, Any] = {
        "time": timestamp(record.created),
        "level": level_name(record.levelno),
        "msg": "",
    }
    if record.name:
        fields["logger"] = record.name
    if service is not None:
        fields["service"] = service
    if type(record.msg) is dict and not record.args:  # structlog's, on its way to its formatter
        _add_event(fields, record.msg)
    else:
        _add_message(fields, record)
    for name, value in vars(record).items():
        if name not in STANDARD:
            _add(fields, name, value)
    if record.exc_info:
        _add_traceback(fields, record.exc_info)
    elif record.exc_text:
        fields["error"] = record.exc_text
    if record.stack_info:
        fields["stack"] = as_text(record.stack_info)
    return fields


def of_event(
    event: Mapping[str, Any], level: int, logger: object, service: str | None
) -> dict[str, Any]:
    """The fields of an event of structlog."""
    fields: dict[str, Any] = {"time": timestamp(time.time()), "level": level_name(level), "msg": ""}
    name = event.get("logger") or getattr(logger, "name", None)
    if isinstance(name, str):
        fields["logger"] = name
    if service is not None:
        fields["service"] = service
    _add_event(fields, event)
    return fields


def event_level(event: Mapping[str, Any], method: str) -> int:
    """The level of an event: its own, or that of the method that was called."""
    name = event.get("level", method)
    known = STRUCTLOG_LEVELS.get(name.lower()) if isinstance(name, str) else None
    return known or STRUCTLOG_LEVELS.get(method, logging.INFO)


def _add_message(fields: dict[str, Any], record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - "%d" of a text, and other people's `__str__`
        text = as_text(record.msg)
        fields["args"] = as_text(record.args)
    fields["msg"] = text[:LINE_LIMIT]


def _add_event(fields: dict[str, Any], event: Mapping[str, Any]) -> None:
    fields["msg"] = as_text(event.get("event", ""))[:LINE_LIMIT]
    for name, value in event.items():
        if name not in STRUCTLOG_OWN:
            _add(fields, name, value)
    if event.get("exception"):
        fields["error"] = as_text(event["exception"])
    elif event.get("exc_info"):
        _add_traceback(fields, event["exc_info"])


def _add(fields: dict[str, Any], name: object, value: object) -> None:
    if not isinstance(name, str):
        name = as_text(name)
    if name.startswith("_"):
        return
    if name in TRACE:
        if value == NO_TRACE:
            return
        name = TRACE[name]
    elif name in OWN:
        name += "_"
    if type(value) is str and len(value) > LINE_LIMIT:  # nobody shall wait while it is encoded
        value = value[:LINE_LIMIT]
    fields[name] = value


def _add_traceback(fields: dict[str, Any], error: object) -> None:
    """Add the traceback of what `exc_info` may be: a tuple, an exception, or anything true."""
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    elif not isinstance(error, tuple):
        error = sys.exc_info()
    try:
        if error[0] is not None:
            text = "".join(traceback.format_exception(*error)).rstrip("\n")
            fields["error"] = text[-LINE_LIMIT:]  # the end says what it is
    except Exception:  # noqa: BLE001 - other people's `__str__`
        fields["error"] = as_text(error)
