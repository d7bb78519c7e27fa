"""What recent look-ups found, for as long as nothing has changed.

A login asks twice for the same key, and programs log in again and again with one.  Whoever changes
the database changes its stamp (`pipe.store.database.Database.stamp`), and with it goes all that is
remembered here: there is nothing to invalidate by hand, and nothing to forget to.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

K = TypeVar("K")
V = TypeVar("V")


class StampedCache(Generic[K, V]):
    """The latest ``size`` answers that were found under the stamp that holds now.

    Args:
        size: Entries, at most; the one that was used longest ago goes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._stamp: Hashable | None = None
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, stamp: Hashable | None) -> V | None:
        """What was found for ``key``, if ``stamp`` says that this is still so."""
        if stamp is None or stamp != self._stamp:
            self._entries.clear()
            self._stamp = stamp
            return None
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V, stamp: Hashable | None) -> None:
        """Remember what was found.

        Args:
            key: What was asked.
            value: What was found.
            stamp: What it was *before* it was looked up; nothing is kept if it has changed.
        """
        if stamp is None or stamp != self._stamp:
            return
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
