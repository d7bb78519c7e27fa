"""From fields to lines: a JSON object each, in UTF-8, of at most 64 KiB.

Whatever the fields hold, a line comes of it. What is not JSON becomes text, and what is too long is
cut, except `user`: that decides who sees the line, so it is sent as it is or not at all.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE_LIMIT: Final = 64 * 1024
"""Bytes, the newline included: what a server of `pipe` takes for a line."""

GAP_ROOM: Final = 40
"""Bytes that are kept free in every line for `"dropped":N`, which may come later."""

CUT_STEPS: Final = (16384, 4096, 1024, 256, 64)
"""Characters: how much is left of each text, tried in turn until the line is short enough."""

USER_LIMIT: Final = 256
"""Characters; no user has a name that is nearly as long."""

CUT_MARK: Final = "…"


def as_text(value: object) -> str:
    """What stands for a value that is not JSON, or is not text where text is wanted."""
    try:
        if isinstance(value, (bytes, bytearray)):
            return value.decode("utf-8", "backslashreplace")
        return str(value)
    except Exception:  # noqa: BLE001 - other people's `__str__`
        return f"<{type(value).__name__}>"


_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=as_text
).encode


def encode(fields: Mapping[str, object]) -> bytes:
    """The line that says this, with its newline."""
    try:
        text = _encode(fields)
    except Exception:  # noqa: BLE001 - circles, NaN, odd keys, other people's `__str__`
        fields = {as_text(name): _plain(value) for name, value in fields.items()}
        text = _encode(fields)
    line = text.encode("utf-8", "replace")
    if len(line) >= LINE_LIMIT - GAP_ROOM:
        line = _cut(fields).encode("utf-8", "replace")
    return line + b"\n"


def _plain(value: object) -> object:
    try:
        _encode(value)
    except Exception:  # noqa: BLE001
        return as_text(value)
    return value


def _cut(fields: Mapping[str, object]) -> str:
    """The line with its texts cut, and `cut` to say so."""
    kept = {as_text(name)[:64]: value for name, value in fields.items() if name != "user"}
    user = fields.get("user")
    if user is not None and len(_encode(user)) <= USER_LIMIT:
        kept["user"] = user
    kept["cut"] = True
    for length in CUT_STEPS:
        text = _encode({name: _shortened(value, length) for name, value in kept.items()})
        if len(text.encode("utf-8", "replace")) < LINE_LIMIT - GAP_ROOM:
            return text
    names = ("time", "level", "msg", "service", "user", "logger", "cut")
    return _encode({name: _shortened(kept[name], 256) for name in names if name in kept})


def _shortened(value: object, length: int) -> object:
    if not isinstance(value, str):
        text = _encode(value)
        if len(text) <= length:
            return value
        value = text
    return value if len(value) <= length else value[:length] + CUT_MARK


def with_gap(line: bytes, dropped: int) -> bytes:
    """The same line saying that so many before it were dropped."""
    return b'{"dropped":%d,' % dropped + line[1:]


_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def timestamp(seconds: float) -> str:
    """A moment as RFC 3339 writes it, in UTC, to the microsecond."""
    global _second
    whole = int(seconds // 1)
    known, text = _second
    if known != whole:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        _second = (whole, text)
    return f"{text}.{min(int((seconds - whole) * 1_000_000), 999_999):06d}Z"


def parsed(text: bytes) -> dict[str, Any] | None:
    """The object that a line is, or None if it is something else: then it is text."""
    if not text.startswith(b"{"):
        return None
    try:
        value = json.loads(text.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None


def _refuse(constant: str) -> None:
    raise ValueError(constant)
