"""Recognises what is told twice.

A sender that has no answer sends again, with the same id.  A push through our proxy may be told by
the registry as well, with an id of its own: the same digest under the same tag, moments later.

The time is an argument; both memories are bounded, and forget the oldest first.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipe.events.envelope import Event

ID_SECONDS = 24 * 3600.0
"""How long an id is kept: senders that we know give up within hours."""

MAX_IDS = 10_000
"""Ids that are kept, of all senders together: some 1.5 MiB."""

PUSH_SECONDS = 60.0
"""How long after a push the same one counts as told again: a registry's notification takes seconds,
and who pushes the same image once more after that wants it deployed once more."""

MAX_PUSHES = 10_000
"""Pushes that are kept: 166 each second of those `PUSH_SECONDS`."""


class Sighting(NamedTuple):
    """Something that is told, by which it is recognised if it is told again.

    ``text`` is an id, or with ``pushed`` what has been pushed.
    """

    text: str
    pushed: bool = False


def sight(event: Event) -> Sighting | None:
    """How a push is recognised, by its digest under its tag; one without a digest never is."""
    if not event.digest:
        return None
    return Sighting(f"{event.repository}:{event.tag}@{event.digest}", pushed=True)


class Seen:
    """What has been told lately."""

    def __init__(self) -> None:
        self._ids = _Memory(ID_SECONDS, MAX_IDS)
        self._pushes = _Memory(PUSH_SECONDS, MAX_PUSHES)

    def first(self, sighting: Sighting, now: float) -> bool:
        """Note something, and return whether it is new.

        Args:
            sighting: what; an id has its sender's in it, as senders choose ids by themselves.
            now: in seconds of a clock that only goes forward.
        """
        memory = self._pushes if sighting.pushed else self._ids
        return memory.first(sighting.text, now)


class _Memory:
    """Texts, for a while."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._times: dict[bytes, float] = {}  # the oldest first

    def first(self, text: str, now: float) -> bool:
        self._forget(now - self._seconds)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self._times:
            return False
        if len(self._times) >= self._most:
            del self._times[next(iter(self._times))]
        self._times[key] = now
        return True

    def _forget(self, before: float) -> None:
        while self._times:
            oldest = next(iter(self._times))
            if self._times[oldest] > before:
                return
            del self._times[oldest]
