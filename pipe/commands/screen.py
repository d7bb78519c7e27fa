"""An answer drawn over the one before, in a terminal."""

from __future__ import annotations

from typing import NamedTuple

from pipe.commands.layout import WIDTH

HEIGHT = 24
"""Rows of a terminal that does not tell."""

MOST = 1000
"""Columns and rows that are used at most, whatever a client says."""

_HOME = "\x1b[H"
_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"
"""ECMA-48, sections 8.3.21, 8.3.41 and 8.3.39: what all terminals know but dumb ones."""


class Screen(NamedTuple):
    """A terminal: its size, with 0 if it is not known, and whether its user wants colours."""

    columns: int = 0
    rows: int = 0
    colours: bool = True


def no_screen() -> None:
    """There is no terminal, or the answer is not for people."""


def redraw(text: str, screen: Screen) -> str:
    """Write lines from the top left on, as many and as much of each as there is room for."""
    columns = min(max(screen.columns, 0) or WIDTH, MOST)
    rows = min(max(screen.rows, 0) or HEIGHT, MOST)
    lines = text.splitlines()
    if len(lines) >= rows:
        hidden = len(lines) - max(rows - 2, 0)
        lines = [*lines[: max(rows - 2, 0)], f"... {hidden} more lines"]
    drawn = "".join(f"{line[:columns]}{_CLEAR_LINE}\n" for line in lines)
    return f"{_HOME}{drawn}{_CLEAR_BELOW}"
