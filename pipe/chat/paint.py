"""Lays events out for a terminal: rows that fit its width, names in colours, mentions in bold."""

from __future__ import annotations

import re
import unicodedata
import zlib
from typing import TYPE_CHECKING

from pipe.chat.events import sentence

if TYPE_CHECKING:
    from pipe.chat.events import Event

MIN_WIDTH = 20
MAX_WIDTH = 500
DEFAULT_WIDTH = 80
"""Columns: what is used whatever a client says of its terminal, and where it says nothing."""

HANG = 2
"""Columns by which further rows are indented."""

BELL = "\a"
_COLOURS = (31, 32, 33, 34, 35, 36)
_BOLD, _FAINT, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
"""ECMA-48, section 8.3.117."""


def usable_width(columns: int) -> int:
    """Return the columns to draw in.

    Not the last one: where a row ends there, terminals differ in where the cursor is.
    """
    if columns <= 0:
        columns = DEFAULT_WIDTH
    return min(max(columns, MIN_WIDTH), MAX_WIDTH) - 1


def columns_of(text: str) -> int:
    """How many columns printable text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap(text: str, width: int) -> list[str]:
    """Cut printable text into rows of at most ``width`` columns, at spaces where there are any."""
    rows: list[str] = []
    row: list[str] = []
    used, cut = 0, 0  # columns of the row, and the index behind its last space
    for character in text:
        size = _columns(character)
        if used + size > width:
            cut = cut or len(row)
            rows.append("".join(row[:cut]).rstrip(" "))
            row = [" "] * HANG + row[cut:]
            used, cut = columns_of("".join(row)), 0
        row.append(character)
        used += size
        if character == " " and len(row) > HANG:
            cut = len(row)
    rows.append("".join(row))
    return rows


def mentions(event: Event, user: str, nick: str) -> bool:
    """Whether somebody else has said a user's name, or nick."""
    if not event.speech or event.user == user:
        return False
    words = "|".join(map(re.escape, filter(None, (user, nick))))
    return re.search(rf"(?<![\w-])(?:{words})(?![\w-])", event.text, re.IGNORECASE) is not None


def paint(event: Event, width: int, *, colours: bool, mentioned: bool = False) -> str:
    """Lay out one event, without the last line end.

    Args:
        event: what has happened.
        width: from `usable_width`.
        colours: whether there may be any.
        mentioned: whether its reader is meant.
    """
    rows = wrap(sentence(event), width)
    if not colours:
        return "\n".join(rows)
    if not event.speech:
        return "\n".join(f"{_FAINT}{row}{_PLAIN}" for row in rows)
    style = _BOLD if mentioned else ""
    start = rows[0].find(event.name)
    if start < 0:  # its row is narrower than the name
        return "\n".join(f"{style}{row}{_PLAIN}" for row in rows)
    stop = start + len(event.name)
    head = f"{rows[0][:start]}\x1b[{_colour(event.user)}m{event.name}{_PLAIN}{style}"
    first = f"{head}{rows[0][stop:]}{_PLAIN if style else ''}"
    return "\n".join((first, *(f"{style}{row}{_PLAIN}" if style else row for row in rows[1:])))


def _colour(user: str) -> int:
    """A user's colour, the same for everybody."""
    return _COLOURS[zlib.crc32(user.encode()) % len(_COLOURS)]
