"""Who published which bytes of a ring, for readers that come late and want to know."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RUNS = 512
"""Changes of hands that are known at least, of 60 bytes each; twice as many at most."""


class Speakers:
    """The users whose bytes a ring holds; who published before it was made is not known."""

    __slots__ = ("_starts", "_users")

    def __init__(self) -> None:
        self._starts: list[int] = []  # in the ring, where a user takes over
        self._users: list[str] = []

    def note(self, position: int, user: str) -> None:
        """What comes from a position on is a user's."""
        if self._users and self._users[-1] == user:
            return
        if len(self._users) >= 2 * MAX_RUNS:
            del self._starts[:MAX_RUNS], self._users[:MAX_RUNS]
        self._starts.append(position)
        self._users.append(user)

    def between(self, start: int, end: int) -> Iterator[tuple[str | None, int, int]]:
        """Yield whose bytes come in turn: a user, or None if that is not known; start and end."""
        index = bisect_right(self._starts, start) - 1
        while start < end:
            user = self._users[index] if index >= 0 else None
            index += 1
            stop = min(end, self._starts[index]) if index < len(self._starts) else end
            yield user, start, stop
            start = stop
