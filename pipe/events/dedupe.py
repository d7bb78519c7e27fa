"""Recognises what is told twice.

A sender that has no answer sends again, with the same id.  A push through our proxy may be told by
the registry as well, with an id of its own: the same digest under the same tag, moments later.

The time is an argument; both memories are bounded, and forget the oldest first.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

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


class Seen:
    """What has been told lately."""

    def __init__(self) -> None:
        self._ids = _Memory(ID_SECONDS, MAX_IDS)
        self._pushes = _Memory(PUSH_SECONDS, MAX_PUSHES)

    def first(self, ids: str, now: float) -> bool:
        """Note an id, and return whether it is new.

        Args:
            ids: the sender's and its event's together, as senders choose ids by themselves.
            now: in seconds of a clock that only goes forward.
        """
        return self._ids.first(ids, now)

    def first_push(self, event: Event, now: float) -> bool:
        """Note a push, and return whether it is new: its digest under its tag.

        One without a digest always is.
        """
        if not event.digest:
            return True
        return self._pushes.first(f"{event.repository}:{event.tag}@{event.digest}", now)


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
