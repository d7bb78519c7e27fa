"""The counts of a soak, the promises that it found broken, and the table that shows both."""

from __future__ import annotations

from collections import Counter
from typing import Final

SHOWN: Final = 20
"""Broken promises that are told in full."""


class Tally:
    """What has happened so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self.scenes: Counter[str] = Counter()

    def count(self, what: str, number: int = 1) -> None:
        """Count something that is no fault."""
        self.counts[what] += number

    def fail(self, kind: str, what: str) -> None:
        """Note a broken promise: a kind that is counted, and a line that is told at once."""
        self.counts[kind] += 1
        self.broken.append(f"{kind}: {what}")
        if len(self.broken) <= SHOWN:
            print(f"  ! {self.broken[-1]}", flush=True)

    def faults(self) -> list[str]:
        """The first broken promises, and how many more there are."""
        more = len(self.broken) - SHOWN
        return self.broken[:SHOWN] + ([f"and {more} more"] if more > 0 else [])


def table(rows: list[tuple[str, str]]) -> str:
    """Two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)
