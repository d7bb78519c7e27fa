"""How far a stream is, on one line, as ``pv`` draws it: figures in, text out."""

from __future__ import annotations

from dataclasses import dataclass

from pipe.commands.layout import WIDTH, count, listed, size

MAX_NAMES = 3
"""Names that a line has room for."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One stream at one moment, as one of its members sees it.

    Args:
        moved: bytes of this session so far.
        rate: bytes per second of late.
        seconds: since the first byte.
        size: how many bytes the stream will be, if that is known.
        read: for a `pipe`: bytes it was sent, as ``moved`` counts what it sends.
        there: who is at the other end.
        missing: readers that it waits for.
        held_up: whether it waits for somebody who is there.
        holders: who that is, as far as the user may know.
        drains: whether it only waits for them to read what was sent.
        own: whether the user's own reader holds the stream up.
        before: bytes of the stream that came before this session's, which goes on with it.
    """

    moved: int
    rate: float
    seconds: float
    size: int | None = None
    read: int | None = None
    there: str = ""
    missing: int = 0
    held_up: bool = False
    holders: tuple[str, ...] = ()
    drains: bool = False
    own: bool = False
    before: int = 0


def progress_line(figures: Figures) -> str:
    """Draw a line that fits a terminal of `WIDTH` columns and leaves the last one free."""
    parts = [f"{size(figures.moved):>9} {clock(figures.seconds)} [{size(figures.rate):>9}/s]"]
    if figures.size is not None:
        parts.append(_share(figures, figures.size))
    notes = [figures.there]
    if figures.read is not None:
        notes.insert(0, f"{size(figures.read)} read")
    notes.append(_state(figures))
    parts.append(", ".join(note for note in notes if note))
    return " ".join(part for part in parts if part)[: WIDTH - 1]


def clock(seconds: float) -> str:
    """Write a time as ``pv`` does: ``0:01:05``, after a day ``1:02:03:04``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{minute:02}:{second:02}"
    return f"{days}:{hour:02}:{text}" if days else f"{hour}:{text}"


def _share(figures: Figures, whole: int) -> str:
    done = figures.before + figures.moved
    percent = done * 100 // whole if whole else 100
    text = f"{percent:>3}%"
    left = whole - done
    if left > 0 and figures.moved and figures.seconds:
        text += f" ETA {clock(left * figures.seconds / figures.moved)}"
    return text


def _state(figures: Figures) -> str:
    if figures.missing:
        return f"waits for {count(figures.missing, 'reader')}"
    if figures.own:
        return "held up by this reader"
    if not figures.held_up:
        return ""
    names, more = figures.holders[:MAX_NAMES], len(figures.holders) - MAX_NAMES
    who = [*names, f"{more} more"] if more > 0 else names
    text = listed(who) if who else "a reader"
    return f"waits for {text} to finish" if figures.drains else f"held up by {text}"
