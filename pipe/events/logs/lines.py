"""One log line: a JSON object with the names of Go's slog.

``user`` says whose it is, and has no other name: what decides who sees a line must be exact.
``hidden`` keeps it from that user.  A line is handed on as it came, but that characters which a
terminal obeys, or nobody sees, are written as JSON escapes, which mean the same.
"""

from __future__ import annotations

import enum
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    Fields: TypeAlias = dict[str, Any]

MAX_LINE_BYTES = 64 * 1024
"""A longer line is not read: more than any logger writes but a dump."""

MAX_VALUE_LENGTH = 1000
"""Characters of one value in a line that is the server's own."""

SERVICE = "pipe"
"""The service that the server's own lines are of."""


class Kind(enum.Enum):
    """What a line is; the value is the label of the metric."""

    USER = "user"
    """It names its user."""
    HIDDEN = "hidden"
    """It names its user, who must not see it."""
    NOBODY = "no-user"
    NOT_JSON = "not-json"
    TOO_LONG = "too-long"


class Cutter:
    """Cuts a stream of bytes into lines, and holds the beginning of one that has not ended.

    Of a line that is too long it keeps a byte more than `MAX_LINE_BYTES`, so that it can be told.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._torn = False

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take more of the stream; return the lines that are now complete, empty ones left out."""
        first, *others = bytes(data).split(b"\n")
        if not self._torn:
            self._keep(first)
        if not others:
            return []
        self._torn = False
        lines = [bytes(self._rest), *others]
        self._rest.clear()
        self._keep(lines.pop())
        return list(filter(None, lines))

    def end(self) -> list[bytes]:
        """Return the last line, which needs no newline."""
        last, self._torn = bytes(self._rest), False
        self._rest.clear()
        return [last] if last else []

    def tear(self) -> None:
        """Something is missing here: the line that it is in is dropped, and so is its rest."""
        self._rest.clear()
        self._torn = True

    def _keep(self, piece: bytes) -> None:
        self._rest += piece[: MAX_LINE_BYTES + 1 - len(self._rest)]


def _refuse(constant: str) -> None:
    raise ValueError(constant)


# Python would take NaN, which is no JSON.  No number is used as one but small ones, and a long
# fraction takes long to read.
decode_start = json.JSONDecoder(parse_constant=_refuse, parse_float=str).raw_decode
"""Reads the JSON value that text begins with; returns it and where it ends.

Raises ValueError if there is none, and RecursionError if it is nested too deep.
"""

_OBEYED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0xAD,
    0x61C,
    0x180E,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),
)
"""Control characters, those that turn the direction of writing or break a line, and invisible
ones."""

_ESCAPES = {
    code: f"\\u{code:04x}" if code <= 0xFFFF else f"\\udb40\\u{code - 0xE0000 + 0xDC00:04x}"
    for code in _OBEYED
} | dict.fromkeys(map(ord, "\t\r\n"), " ")
"""JSON allows tabs and newlines only between its tokens."""

_FIND_OBEYED = re.compile("[" + "".join(map(chr, _ESCAPES)).replace("\\", "") + "]").search


def tidy(text: str) -> str:
    """Write JSON in one line, so that a terminal can show it; it means the same."""
    if text.isprintable() or not _FIND_OBEYED(text):
        return text
    return text.translate(_ESCAPES)


def read_line(raw: bytes) -> tuple[bytes, Fields] | None:
    """Read a line without space around it.

    Returns:
        The line as it is handed on, with a newline, and its fields; None: it is no JSON object.
    """
    try:
        text = raw.decode()
        fields, end = decode_start(text)
    except (ValueError, RecursionError):
        return None
    if type(fields) is not dict or end != len(text):
        return None
    if not raw.isascii() or b"\x7f" in raw or b"\r" in raw:
        raw = tidy(text).encode()
    return raw + b"\n", fields


def kind_of(fields: Fields) -> Kind:
    """Say who may see a line that could be read."""
    user = fields.get("user")
    if type(user) is not str or not user:
        return Kind.NOBODY
    return Kind.HIDDEN if fields.get("hidden") is True else Kind.USER


def own_line(now: float, level: str, text: str, fields: Mapping[str, object]) -> bytes:
    """Write a line of the server's own; ``now`` is in seconds since 1970."""
    line = {
        "time": timestamp(now),
        "level": level,
        "msg": text,
        "service": SERVICE,
        **{name: cut(value) for name, value in fields.items()},
    }
    return tidy(to_json(line)).encode("utf-8", "replace") + b"\n"


def to_json(value: object) -> str:
    """Write a value as JSON in one line; what JSON has no form for as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def timestamp(seconds: float) -> str:
    """Write a time as RFC 3339 does."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def cut(value: object) -> object:
    """Cut a text that is too long."""
    if isinstance(value, str) and len(value) > MAX_VALUE_LENGTH:
        return f"{value[:MAX_VALUE_LENGTH]}…"
    return value
