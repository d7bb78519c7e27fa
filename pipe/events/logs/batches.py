"""Many log lines in one body, as shippers send them.

    lines of JSON       one object in each, blank lines left out
    JSON                an array of objects, or objects one after the other
    OTLP                OpenTelemetry's ``resourceLogs`` as JSON (opentelemetry-proto, logs.proto)

A body is read bit by bit: whoever asks for the lines decides after each one whether to go on at
once.  No value in it is read that is longer than a line may be.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import TYPE_CHECKING, Any

from pipe.errors import UsageError
from pipe.events.logs.lines import (
    MAX_LINE_BYTES,
    Cutter,
    decode_start,
    read_line,
    tidy,
    timestamp,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.events.logs.lines import Fields

MAX_BATCH_BYTES = 2 << 20
"""The longest body, as it comes, unpacked, and as lines: so that two can wait for slow readers of
the drain's topic (`pipe.events.announcer`)."""

MAX_BATCH_LINES = 50_000
"""Lines in a body: more would take seconds to read."""

PIECE_BYTES = 16 * 1024
"""How much is unpacked or cut into lines at a time."""

FIRST_TRY = 4096
"""Characters that most values end within."""

LINE_TYPES = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "text/plain",
    }
)
JSON_TYPE = "application/json"
"""Types of bodies that are read."""

_SPACE = re.compile(rf"[ \t\r\n]{{0,{MAX_LINE_BYTES}}}")
"""More space than that stands nowhere but in a bomb."""

_OTLP = re.compile(r'[ \t\r\n]{0,99}\{[ \t\r\n]{0,99}"resourceLogs"')

_OTLP_LEVELS = ("DEBUG", "DEBUG", "INFO", "WARN", "ERROR", "ERROR")
"""By fours, from 1 on: the severity numbers of OpenTelemetry's logs data model."""

_EACH_NS = 1_000_000_000


class TooMuch(UsageError):
    """The body is longer than one may be, or has too many lines."""


def unpack(data: bytes) -> Iterator[bytes]:
    """Unpack gzip, some bytes at a time, perhaps none.

    Raises:
        UsageError: it is none, or not whole.
        TooMuch: there is too much in it.
    """
    size = 0
    rest = data
    while rest:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        while not member.eof:
            try:
                piece = member.decompress(rest, PIECE_BYTES)
            except zlib.error:
                raise UsageError("the body is no gzip, though its head says so") from None
            size += len(piece)
            if size > MAX_BATCH_BYTES:
                raise TooMuch(f"the body has more than {MAX_BATCH_BYTES} bytes when unpacked")
            if not piece and not member.unconsumed_tail and not member.eof:
                raise UsageError("the body is gzip that breaks off")
            rest = member.unconsumed_tail
            yield piece
        rest = member.unused_data


def split(content_type: str, body: bytes, *, otlp: bool = False) -> Iterator[bytes | None]:
    """Read the lines of a body, each with a newline.

    Args:
        content_type: one of `LINE_TYPES`, or else `JSON_TYPE`.
        body: unpacked.
        otlp: it can only be OTLP; otherwise that shows.

    Yields:
        A line; None for something that is none; empty bytes where nothing new was found so far.

    Raises:
        UsageError: the body cannot be read from here on.
        TooMuch: there are too many lines.
    """
    pieces = _split_lines(body) if content_type in LINE_TYPES else _split_json(body, otlp=otlp)
    count = 0
    for piece in pieces:
        count += piece != b""
        if count > MAX_BATCH_LINES:
            raise TooMuch(f"the body has more than {MAX_BATCH_LINES} lines: send fewer at a time")
        yield piece


def _split_lines(body: bytes) -> Iterator[bytes | None]:
    cutter, view = Cutter(), memoryview(body)
    for start in range(0, len(body), PIECE_BYTES):
        yield b""
        for line in cutter.feed(view[start : start + PIECE_BYTES]):
            yield _checked(line)
    for line in cutter.end():
        yield _checked(line)


def _checked(raw: bytes) -> bytes | None:
    raw = raw.strip()
    if not raw:
        return b""
    if len(raw) > MAX_LINE_BYTES or read_line(raw) is None:
        return None
    return raw + b"\n"


def _split_json(body: bytes, *, otlp: bool) -> Iterator[bytes | None]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise UsageError("the body is not in UTF-8") from None
    reader = _Reader(text)
    if otlp or _OTLP.match(text):
        yield from _otlp_lines(reader)
    elif reader.sees("["):
        for _ in reader.elements():
            yield _as_line(*reader.value())
    else:
        while not reader.at_end:
            yield _as_line(*reader.value())
    if not reader.at_end:
        raise UsageError(f"something follows the JSON value that ends at character {reader.at}")


def _as_line(value: Any, text: str) -> bytes | None:  # noqa: ANN401 - whatever it is
    return tidy(text).encode("utf-8", "replace") + b"\n" if isinstance(value, dict) else None


class _Reader:
    """Reads JSON step by step.

    Attributes:
        at: the character that comes next.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    @property
    def at_end(self) -> bool:
        """Whether nothing but space is left."""
        self._skip_space()
        return self.at == len(self._text)

    def sees(self, character: str) -> bool:
        """Whether this character comes next."""
        self._skip_space()
        return self._text.startswith(character, self.at)

    def value(self) -> tuple[Any, str]:
        """Read a value, and return it with its text.

        Raises:
            UsageError: it is no JSON, or too long.
        """
        self._skip_space()
        for most in (FIRST_TRY, MAX_LINE_BYTES):
            text = self._text[self.at : self.at + most]
            try:
                value, end = decode_start(text)
            except (ValueError, RecursionError):
                continue
            if end == most:  # a number may go on
                continue
            self.at += end
            return value, text[:end]
        raise UsageError(
            f"what begins at character {self.at} is no JSON, or longer than {MAX_LINE_BYTES} bytes"
        )

    def elements(self) -> Iterator[None]:
        """Go through an array; whoever does reads an element each time."""
        self._expect("[")
        if self._takes("]"):
            return
        while True:
            yield
            if self._takes("]"):
                return
            self._expect(",")

    def members(self) -> Iterator[str]:
        """Go through an object by its keys; whoever does reads a value each time."""
        self._expect("{")
        if self._takes("}"):
            return
        while True:
            key, _ = self.value()
            if not isinstance(key, str):
                raise UsageError(f"at character {self.at} a key is no text")
            self._expect(":")
            yield key
            if self._takes("}"):
                return
            self._expect(",")

    def _expect(self, character: str) -> None:
        if not self._takes(character):
            raise UsageError(f"at character {self.at} there is no '{character}'")

    def _takes(self, character: str) -> bool:
        found = self.sees(character)
        self.at += found
        return found

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self.at)
        if found:
            self.at = found.end()
            if found.end() - found.start() == MAX_LINE_BYTES:
                raise UsageError(f"before character {self.at} is nothing but space")


def _otlp_lines(reader: _Reader) -> Iterator[bytes | None]:
    """Go down to the records, which are the only long part."""
    for key in reader.members():
        if key != "resourceLogs":
            reader.value()
            continue
        for _ in reader.elements():
            yield from _resource_lines(reader)


def _resource_lines(reader: _Reader) -> Iterator[bytes | None]:
    about: Fields | None = None
    for key in reader.members():
        if key == "resource":
            if about is not None:
                raise UsageError("in OTLP the resource comes once, and before its records")
            about = _attributes(reader.value()[0])
        elif key == "scopeLogs":
            about = about or {}
            for _ in reader.elements():
                for inner in reader.members():
                    if inner != "logRecords":
                        reader.value()
                        continue
                    for _ in reader.elements():
                        yield _record_line(reader.value()[0], about)
        else:
            reader.value()


def _record_line(record: Any, about: Fields) -> bytes | None:  # noqa: ANN401 - whatever it is
    """Write an OTLP record as a line with the names of slog."""
    if not isinstance(record, dict):
        return None
    try:
        fields: Fields = {
            "time": _otlp_time(record),
            "level": _otlp_level(record),
            "msg": _otlp_value(record.get("body")),
        }
        fields = {**about, **_attributes(record), **fields}
        for name, key in (("trace_id", "traceId"), ("span_id", "spanId")):
            if isinstance(record.get(key), str) and record[key]:
                fields[name] = record[key]
        line = tidy(to_json(fields)).encode("utf-8", "replace") + b"\n"
    except (RecursionError, ValueError, OverflowError):
        return None
    return line if len(line) <= MAX_LINE_BYTES else None


def _otlp_time(record: Fields) -> str | None:
    for key in ("timeUnixNano", "observedTimeUnixNano"):
        nanoseconds = int(record.get(key) or 0)
        if nanoseconds:
            return timestamp(nanoseconds / _EACH_NS)
    return None


def _otlp_level(record: Fields) -> str:
    number = record.get("severityNumber")
    if isinstance(number, int) and 1 <= number <= 24:
        return _OTLP_LEVELS[(number - 1) // 4]
    text = record.get("severityText")
    return text if isinstance(text, str) and text else "INFO"


def _attributes(holder: Any) -> Fields:  # noqa: ANN401 - whatever it is
    """The attributes of a resource or record; ``service.name`` is the service."""
    found: Fields = {}
    pairs = holder.get("attributes") if isinstance(holder, dict) else None
    for pair in pairs if isinstance(pairs, list) else []:
        if isinstance(pair, dict) and isinstance(pair.get("key"), str):
            key = "service" if pair["key"] == "service.name" else pair["key"]
            found[key] = _otlp_value(pair.get("value"))
    return found


def _otlp_value(value: Any) -> Any:  # noqa: ANN401 - JSON of any type
    """What stands in an ``AnyValue``."""
    if not isinstance(value, dict) or not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "intValue":
        return int(inner)
    if kind == "doubleValue":
        return float(inner)
    if kind == "bytesValue":
        try:
            return base64.b64decode(inner).decode("utf-8", "replace")
        except (binascii.Error, TypeError):
            return None
    if kind in {"arrayValue", "kvlistValue"}:
        values = inner.get("values") if isinstance(inner, dict) else None
        values = values if isinstance(values, list) else []
        if kind == "arrayValue":
            return [_otlp_value(one) for one in values]
        return _attributes({"attributes": values})
    return inner
