"""Numbers in settings: how to write durations, sizes and counts, and their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from pipe.errors import UsageError
from pipe.language.durations import format_duration, parse_duration
from pipe.language.sizes import GIB as GIB
from pipe.language.sizes import KIB as KIB
from pipe.language.sizes import MIB as MIB
from pipe.language.sizes import format_size as format_size
from pipe.language.sizes import parse_size as parse_size

if TYPE_CHECKING:
    from collections.abc import Callable


MINUTE, HOUR = 60.0, 3600.0


def _parse_count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 20:
        return int(text)
    raise UsageError("this is not a whole number")


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a number may be: how it is written, and its bounds, both inclusive.

    Text goes through ``parse``.  A number, as TOML and tests give it, is already in the base unit.
    """

    kind: str
    parse: Callable[[str], float]
    show: Callable[[float], str]
    low: float
    high: float
    note: str = ""

    @property
    def allowed(self) -> str:
        """The rule, as error messages and help state it."""
        return f"{self.show(self.low)} to {self.show(self.high)}{self.note}"

    def __call__(self, value: object) -> float:
        """Check a value.

        Raises:
            ValueError: It cannot be read or is out of bounds.
        """
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(self.allowed)
        try:
            number = self.parse(value) if isinstance(value, str) else value
        except UsageError as error:
            raise ValueError(self.allowed) from error
        if not self.low <= number <= self.high:
            raise ValueError(self.allowed)
        return number


def duration(low: float, high: float) -> BeforeValidator:
    """A setting's type: seconds within these bounds, written like ``90s``."""
    return BeforeValidator(
        Quantity("DURATION", parse_duration, format_duration, low, high, ", such as 90s or 1h30m")
    )


def size(low: int, high: int) -> BeforeValidator:
    """A setting's type: bytes within these bounds, written like ``2MiB``."""
    return BeforeValidator(
        Quantity("SIZE", parse_size, format_size, low, high, ", such as 512KiB or 2MiB")
    )


def count(low: int, high: int, note: str = "") -> BeforeValidator:
    """A setting's type: a whole number within these bounds."""
    return BeforeValidator(Quantity("N", _parse_count, "{:.0f}".format, low, high, note))


ShortDuration = Annotated[float, duration(0.1, 10 * MINUTE)]
"""Seconds that a person or a program at the other end may take to answer."""
