"""What a check finds."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """The server starts, and something may not be as it was meant."""
    ERROR = "error"
    """The server would not start, or a part of it be of use to nobody."""


class Finding(NamedTuple):
    """One line: about a setting, and how to mend what is wrong.

    Attributes:
        level: How bad it is.
        about: The setting as it is written, or what else it is about.
        text: What was found, safe to print.
    """

    level: Level
    about: str
    text: str

    def __str__(self) -> str:
        """The line that is printed."""
        return f"{self.level:<7}  {self.about}: {self.text}"


def ok(about: str, text: str) -> Finding:
    """Nothing is wrong."""
    return Finding(Level.OK, about, text)


def warning(about: str, text: str) -> Finding:
    """Something may be wrong."""
    return Finding(Level.WARNING, about, text)


def error(about: str, text: str) -> Finding:
    """Something is wrong."""
    return Finding(Level.ERROR, about, text)
