"""A cache of recent lookups, valid until something changes.

A login asks twice for the same key, and programs log in again and again with one.  Every change to
the database changes its stamp (`pipe.store.database.Database.stamp`), which empties this cache:
nothing has to be invalidated by hand, so nothing can be forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

K = TypeVar("K")
V = TypeVar("V")


class StampedCache(Generic[K, V]):
    """The latest ``size`` answers that were found under the current stamp.

    Args:
        size: Most entries; the least recently used goes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._stamp: Hashable | None = None
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, stamp: Hashable | None) -> V | None:
        """Return what was found for ``key``, if ``stamp`` shows that it still holds."""
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
            stamp: The stamp from *before* the lookup; nothing is kept if it has changed.
        """
        if stamp is None or stamp != self._stamp:
            return
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
