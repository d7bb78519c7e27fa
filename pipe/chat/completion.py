"""Completes what is typed: the names of those in the room, and commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipe.chat.commands import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CHOICES = 20
"""Choices that are shown at most."""


class Completion(NamedTuple):
    """The line with more in it and the cursor there, or what it may go on with."""

    line: str
    position: int
    choices: tuple[str, ...] = ()


def complete(line: str, position: int, people: Iterable[str]) -> Completion | None:
    """Complete the word before the cursor as far as there is only one way to go on.

    Args:
        line: what is typed.
        position: where the cursor is in it.
        people: the names that are known.

    Returns:
        None if nothing begins like that.
    """
    start = line.rfind(" ", 0, position) + 1
    word = line[start:position]
    known = NAMES if word.startswith("/") and not start else people
    lower = word.lower()
    found = sorted({name for name in known if name.lower().startswith(lower)})
    if not found:
        return None
    if len(found) == 1:
        end = " " if start or word.startswith("/") else ": "
        put = found[0] + end.rstrip() if line[position:].startswith(" ") else found[0] + end
        return Completion(line[:start] + put + line[position:], start + len(put))
    common = _common(found[0], found[-1])
    if len(common) > len(word):
        return Completion(line[:start] + common + line[position:], start + len(common))
    return Completion(line, position, tuple(found[:MAX_CHOICES]))


def _common(one: str, other: str) -> str:
    """What two words begin with, and all that are sorted between them."""
    size = next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1), None
    )
    return one[:size] if size is not None else min(one, other, key=len)
