"""What a session moved and how long it had to wait: the figures of its line in the log."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Traffic:
    """The traffic of one session, or of all sessions of a connection.

    ``received`` is in bytes taken from the client, ``delivered`` in bytes written to its
    connection; a chunk is delivered once it is queued for it.  ``paused`` is the time that
    publishers were held back by slow readers, ``waited`` the time for which they had too few.
    """

    received: int = 0
    received_chunks: int = 0
    delivered: int = 0
    delivered_chunks: int = 0
    paused_seconds: float = 0.0
    waited_seconds: float = 0.0

    def add(self, other: Traffic) -> None:
        """Count another session's as well."""
        for field in fields(self):
            name = field.name
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def log_fields(self) -> dict[str, int | float]:
        """All figures by name, seconds to the millisecond."""
        return {field.name: round(getattr(self, field.name), 3) for field in fields(self)}


class Stopwatch:
    """Adds up the times between its starts and stops, by any steady clock that its callers read."""

    __slots__ = ("_since", "_total")

    def __init__(self) -> None:
        self._since: float | None = None
        self._total = 0.0

    def start(self, now: float) -> None:
        """Run, if it does not already."""
        if self._since is None:
            self._since = now

    def stop(self, now: float) -> None:
        """Stand, if it does not already."""
        self._total, self._since = self.seconds(now), None

    def seconds(self, now: float) -> float:
        """How long it has run in all."""
        return self._total + (now - self._since if self._since is not None else 0.0)
