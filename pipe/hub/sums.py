"""What each process counts, and what the others do.

Each tells its own counts when they change, and is told the sums of the others'.  So each can judge
by itself, without asking, and may be late by the time that both take: `TELL_SECONDS` twice.  What
several workers let in within that time may exceed a limit; nobody is cut for it.  Another machine
counts as one process more (`pipe.hub.exchange`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TELL_SECONDS = 0.05
"""How long changes are gathered before they are told: a message for each would cost as much as a
login costs in a hundredth."""


class Sums:
    """The counts of all, by a key that is the same everywhere."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}  # by process
        self._totals: dict[str, int] = {}
        self._changed: dict[str, None] = {}

    def report(self, process: str, counts: Mapping[str, int]) -> None:
        """Take a process's own counts, those that have changed."""
        own = self._counts.setdefault(process, {})
        for key, count in counts.items():
            before = own.pop(key, 0)
            total = self._totals.get(key, 0) + count - before
            if count:
                own[key] = count
            if total:
                self._totals[key] = total
            else:
                self._totals.pop(key, None)
            if count != before:
                self._changed[key] = None

    def replace(self, process: str, counts: Mapping[str, int]) -> None:
        """Take all counts that a process has."""
        self.report(process, {**dict.fromkeys(self._counts.get(process, ()), 0), **counts})

    def forget(self, process: str) -> None:
        """A process is gone."""
        self.report(process, dict.fromkeys(self._counts.get(process, ()), 0))
        self._counts.pop(process, None)

    @property
    def pending(self) -> bool:
        """Whether there is news."""
        return bool(self._changed)

    def take_changed(self) -> list[str]:
        """Return the keys whose sums have changed since the last call."""
        changed, self._changed = list(self._changed), {}
        return changed

    def others(self, process: str, keys: list[str] | None = None) -> dict[str, int]:
        """What all others count together, of these keys or of all."""
        own = self._counts.get(process, {})
        return {
            key: self._totals.get(key, 0) - own.get(key, 0)
            for key in (self._totals if keys is None else keys)
        }
