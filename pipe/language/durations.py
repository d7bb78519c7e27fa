"""Spans of time as people write them: ``90s``, ``1h30m``, ``30d``.

The forms are those of Go's ``time.ParseDuration`` plus days, since users know them from pico's
``pipe``.  Commands and settings both read their durations here.
"""

from __future__ import annotations

import re
from decimal import Decimal

from pipe.errors import UsageError

SECONDS_PER_DAY = 86_400

MAX_DURATION = 10.0 * 365 * SECONDS_PER_DAY
"""Seconds: ten years.  More than anyone needs, and far below where event loop timers overflow."""

_MAX_TEXT = 64
"""Characters: all units and a fraction fit.  It bounds the work on hostile text."""

_SECONDS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "\u00b5s": Decimal("1e-6"),  # micro sign
    "\u03bcs": Decimal("1e-6"),  # Greek letter mu, which Go takes as well
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3_600),
    "d": Decimal(SECONDS_PER_DAY),
}

_PART = rf"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)({'|'.join(_SECONDS)})"
_DURATION = re.compile(f"(?:{_PART})+")

_FORMS = "write it like 90s, 1h30m, 30d or 300ms"


def parse_duration(text: str) -> float:
    """Read a duration such as ``1h30m``.

    Args:
        text: One or more numbers, each with its unit (``d h m s ms us ns``), or a plain ``0``.

    Returns:
        Seconds, from 0 to `MAX_DURATION`.

    Raises:
        UsageError: The text is not a duration, or is negative or too long.  The message leaves out
            the text: the caller names it together with the flag or setting.
    """
    if text == "0":
        return 0.0
    if not text:
        raise UsageError(f"a duration is missing: {_FORMS}")
    if text.startswith("-"):
        raise UsageError(f"a duration cannot be negative: {_FORMS}")
    if text.isascii() and text.isdigit():
        raise UsageError(f"a duration needs a unit: {_FORMS}")
    if len(text) > _MAX_TEXT or not _DURATION.fullmatch(text):
        raise UsageError(f"this is not a duration: {_FORMS}")
    seconds = sum(
        (Decimal(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text)), Decimal(0)
    )
    if seconds > Decimal(MAX_DURATION):
        raise UsageError(f"a duration can be at most {format_duration(MAX_DURATION)}")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """Write a duration in the shortest form that `parse_duration` reads back.

    Args:
        seconds: Finite and not negative; rounded to microseconds.

    Returns:
        For example ``30d``, ``1h30m``, ``1.5s``, ``300ms``, ``0s``.
    """
    microseconds = round(seconds * 1_000_000)
    if 0 < microseconds < 1_000:
        return f"{microseconds}us"
    if 0 < microseconds < 1_000_000:
        return f"{Decimal(microseconds) / 1_000:f}ms"
    minutes, remainder = divmod(microseconds, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    whole = "".join(
        f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count
    )
    if whole and not remainder:
        return whole
    return f"{whole}{Decimal(remainder) / 1_000_000:f}s"
