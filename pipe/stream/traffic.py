"""What a session moved and how long it had to wait: the figures on its log line."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Traffic:
    """The traffic of one session, or of all sessions of a connection.

    ``received`` counts bytes taken from the client, ``delivered`` bytes written to its connection;
    a chunk counts as delivered once it is queued for the client.  ``paused_seconds`` is how long
    slow readers held publishers back, ``waited_seconds`` how long they had too few readers.
    """

    received: int = 0
    received_chunks: int = 0
    delivered: int = 0
    delivered_chunks: int = 0
    paused_seconds: float = 0.0
    waited_seconds: float = 0.0

    def add(self, other: Traffic) -> None:
        """Add another session's traffic."""
        for field in fields(self):
            name = field.name
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def log_fields(self) -> dict[str, int | float]:
        """All figures by name, seconds to the millisecond."""
        return {field.name: round(getattr(self, field.name), 3) for field in fields(self)}


class Stopwatch:
    """Adds up the times between starts and stops; callers read the clock, which must be steady."""

    __slots__ = ("_since", "_total")

    def __init__(self) -> None:
        self._since: float | None = None
        self._total = 0.0

    def start(self, now: float) -> None:
        """Start, unless it is running."""
        if self._since is None:
            self._since = now

    def stop(self, now: float) -> None:
        """Stop, unless it is stopped."""
        self._total, self._since = self.seconds(now), None

    def seconds(self, now: float) -> float:
        """How long it has run in total."""
        return self._total + (now - self._since if self._since is not None else 0.0)
