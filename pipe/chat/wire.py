"""How what is said looks on the topic: a line ``name: text``, or ``* name text`` for an action.

A line's name counts only where it is the name of the user who published it, perhaps with a nick.
Everything else is text of that user's, whatever name it begins with.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipe.chat.events import SERVER, UNKNOWN, Event, Kind

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pipe.stream.topics import Member

MAX_LINE_BYTES = 8192
"""What is shown as one line: longer ones are cut there, so that little waits for a line's end."""

MAX_LINES_READ = 256
"""Lines of one chunk that are read: more than anybody may say at once or asks for of the past."""

MAX_UNPRUNED = 16
"""Beginnings of lines above which those of members who have left are looked for."""

_LINE = re.compile(
    r"(?P<action>\* )?(?P<name>(?P<user>[a-z][a-z0-9_-]*)(?:~[A-Za-z0-9_-]{1,16})?)"
    r"(?(action) |: ?)(?P<text>.*)",
    re.DOTALL,
)


def shown_name(user: str, nick: str) -> str:
    """How a user is shown: with a nick behind the name, which stays the first thing to be read."""
    return f"{user}~{nick}" if nick else user


def write_lines(name: str, lines: list[str], *, action: bool = False) -> bytes:
    """Write what somebody says, as one chunk, so that nothing comes between the lines."""
    head = f"* {name} " if action else f"{name}: "
    return "".join(f"{head}{line}\n" for line in lines).encode("utf-8", "replace")


def read_line(user: str | None, line: bytes) -> Event:
    """Read a line that a user has published; None for a user who is not known."""
    text = line.removesuffix(b"\r").decode("utf-8", "replace")
    found = _LINE.fullmatch(text)
    if user and found and found["user"] == user:
        kind = Kind.DID if found["action"] else Kind.SAID
        return Event(kind, user, found["name"], found["text"])
    name = UNKNOWN if user is None else user or SERVER
    return Event(Kind.SAID, user or "", name, text)


class Lines:
    """Cuts into lines what several sources send, in pieces of any size."""

    def __init__(self) -> None:
        self._begun: dict[Hashable, bytes] = {}

    def __len__(self) -> int:
        """How many lines have begun."""
        return len(self._begun)

    def feed(self, source: Hashable, data: bytes) -> tuple[list[bytes], int]:
        """Take more of a source's.

        Returns:
            The lines that are now complete, without empty ones, and how many there are beyond
            `MAX_LINES_READ`, which nobody looks at.
        """
        *whole, rest = (self._begun.pop(source, b"") + data).split(b"\n", MAX_LINES_READ)
        more = rest.count(b"\n")
        if more:
            rest = rest[rest.rfind(b"\n") + 1 :]
        lines = [piece for line in whole for piece in _pieces(line)]
        *full, rest = _pieces(rest) or [b""]
        if len(rest) == MAX_LINE_BYTES:
            full, rest = [*full, rest], b""
        if rest:
            self._begun[source] = rest
        return [*lines, *full], more

    def prune(self, member: Member) -> None:
        """Forget what members had begun who have left, if there may be many of them.

        Args:
            member: whose line has begun just now.
        """
        if len(self._begun) > MAX_UNPRUNED and member in self._begun:
            gone = [one for one in self._begun if not getattr(one, "joined", True)]
            for one in gone:
                del self._begun[one]


def _pieces(line: bytes) -> list[bytes]:
    starts = range(0, len(line), MAX_LINE_BYTES)
    return [line[start : start + MAX_LINE_BYTES] for start in starts]
