"""Which lines somebody wants to see.

Loggers have many names for the same field.  Those read here only decide what a filter lets through:
who sees a line at all depends on ``user`` and ``hidden`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipe.language.log_requests import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipe.events.logs.lines import Fields

LEVEL_NAMES = ("level", "severity", "severity_text", "log.level", "PRIORITY")
SERVICE_NAMES = ("service", "service.name", "SYSLOG_IDENTIFIER", "container_name")
"""Names of a field, the first that is there counts; a dot may also stand for an object within."""

_WORDS = {
    "trace": Level.DEBUG,
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "information": Level.INFO,
    "notice": Level.INFO,
    "warn": Level.WARN,
    "warning": Level.WARN,
    "error": Level.ERROR,
    "err": Level.ERROR,
    "fatal": Level.ERROR,
    "panic": Level.ERROR,
    "crit": Level.ERROR,
    "critical": Level.ERROR,
    "alert": Level.ERROR,
    "emerg": Level.ERROR,
}

_SYSLOG = (*[Level.ERROR] * 4, Level.WARN, Level.INFO, Level.INFO, Level.DEBUG)
"""By the severities of RFC 5424, which journald and GELF write."""

_PINO = (Level.DEBUG, Level.DEBUG, Level.INFO, Level.WARN, Level.ERROR, Level.ERROR)
"""By tens, from 10 on: the numbers of pino and bunyan."""

_MAX_WORD = 16


def level_of(fields: Fields) -> Level:
    """The level of a line; one that has none that is known counts as INFO, as in slog."""
    value = _find(fields, LEVEL_NAMES)
    if isinstance(value, str) and len(value) <= _MAX_WORD:
        if not value.isdecimal():
            return _WORDS.get(value.lower().partition("+")[0].partition("-")[0], Level.INFO)
        value = int(value)
    if type(value) is int:
        if 0 <= value < len(_SYSLOG):
            return _SYSLOG[value]
        if 10 <= value < 70:
            return _PINO[value // 10 - 1]
    return Level.INFO


def service_of(fields: Fields) -> str:
    """The service that a line says it is of; empty if it says none."""
    value = _find(fields, SERVICE_NAMES)
    if isinstance(value, dict):
        value = value.get("name")
    return value if isinstance(value, str) else ""


def _find(fields: Fields, names: Sequence[str]) -> Any:  # noqa: ANN401 - whatever stands there
    for name in names:
        if name in fields:
            return fields[name]
        outer, dot, inner = name.partition(".")
        within = fields.get(outer) if dot else None
        if isinstance(within, dict) and inner in within:
            return within[inner]
    return None


@dataclass(frozen=True, slots=True)
class Filter:
    """What a line must be; by default anything.

    ``text`` is searched for in the line as it is shown.
    """

    level: Level = Level.DEBUG
    service: str = ""
    text: bytes = b""

    def __bool__(self) -> bool:
        """Whether it keeps anything back."""
        return bool(self.level or self.service or self.text)

    def admits(self, line: bytes, fields: Fields) -> bool:
        """Whether a line is wanted."""
        if self.text and self.text not in line:
            return False
        if self.service and service_of(fields) != self.service:
            return False
        return not self.level or level_of(fields) >= self.level
