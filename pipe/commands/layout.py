"""How commands lay out their answers: columns, sizes, times."""

from __future__ import annotations

import json
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipe.language.wording import amount as amount
from pipe.language.wording import count as count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipe.language.names import TopicName
    from pipe.rights.callers import Caller


WIDTH = 80
"""Columns of a terminal by default."""

_LABEL_WIDTH = 9
_INDENT = "  "


def table(header: Sequence[str], rows: Iterable[Sequence[str]], fold: int | None = None) -> str:
    """Lay out columns, each as wide as its widest cell.

    If that is wider than `WIDTH`, the columns from number ``fold`` on, if given, go to a second
    line for each row, which is left out if they are empty.
    """
    lines = [header, *rows]
    laid_out = _columns(lines)
    if fold is None or max(map(len, laid_out)) <= WIDTH:
        return "".join(f"{line}\n" for line in laid_out)
    first, second = (_columns([line[part] for line in lines]) for part in _halves(fold))
    return "".join(
        f"{one}\n{_INDENT}{other}\n" if other else f"{one}\n"
        for one, other in zip(first, second, strict=True)
    )


def _halves(fold: int) -> tuple[slice, slice]:
    return slice(fold), slice(fold, None)


def _columns(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def labelled(rows: Iterable[tuple[str, str]]) -> str:
    """Lay out labels with sentences, which wrap if they are too long for one line."""
    lines = [
        line
        for label, text in rows
        for line in textwrap.wrap(
            text,
            WIDTH,
            initial_indent=label.ljust(_LABEL_WIDTH),
            subsequent_indent=" " * _LABEL_WIDTH + _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
    return "".join(f"{line}\n" for line in lines)


def json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    """Write one JSON object per line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def size(count: float) -> str:
    """Write a number of bytes for people: ``512 B``, ``1.5 MiB``."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1023.95 and len(units) > 1:
        count /= 1024
        del units[0]
    return f"{count:.0f} B" if units[0] == "B" else f"{count:.1f} {units[0]}"


def span(seconds: float) -> str:
    """Write how long something has lasted, in one or two units: ``12s``, ``1h05m``, ``3d04h``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    return f"{hours // 24}d{hours % 24:02}h"


def date(seconds: float | None, never: str) -> str:
    """Write a time in UTC, to the minute."""
    if seconds is None:
        return never
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def short_name(topic: TopicName, caller: Caller) -> str:
    """Write a caller's own topics as their owner types them, all others in full."""
    own = topic.owner == caller.user and len(topic.path) == 1
    return topic.path[0] if own else str(topic)


def listed(words: Sequence[str]) -> str:
    """Write words as a list: ``a``, ``a and b``, ``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
