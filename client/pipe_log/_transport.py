"""What a sender asks of a way to the server, and the ways in which that can fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Batch:
    """Lines that are sent together.

    Attributes:
        data: the lines, one after the other.
        lines: how many they are.
        dropped: how many dropped ones they tell of.
    """

    data: bytes
    lines: int
    dropped: int = 0


NOTHING = Batch(b"", 0)
"""Sent to bring over what the transport keeps."""


class Unsent(Exception):
    """A batch was not taken, and shall be sent again.

    Args:
        reason: why, for a person to read.
        after: the least seconds to wait, as the server asks.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """A batch was refused: sent again, it would be refused again.

    Args:
        reason: why, for a person to read.
        lines: how many lines are lost that the transport had kept.
        dropped: how many dropped ones these told of.
    """

    def __init__(self, reason: str, lines: int = 0, dropped: int = 0) -> None:
        super().__init__(reason)
        self.lines = lines
        self.dropped = dropped


class Transport(Protocol):
    """A way to the server; used by one thread, except for `abort` and `forsake`."""

    where: str
    """The other end, for a person to read."""

    held: int
    """Bytes of batches that it keeps, as they may have to be sent again."""

    held_lines: int
    """How many lines these have."""

    @property
    def works(self) -> bool:
        """Whether what was sent last is known, or likely enough, to have arrived."""

    def send(self, batch: Batch) -> None:
        """Send a batch, after all that has to be sent again.

        Raises:
            Unsent: it, or what came before, has to be sent again.
            Refused: it, and all that the transport kept, is not wanted.
        """

    def lost(self) -> bool:
        """Whether what it keeps has to be sent again, because its connection is over."""

    def finish(self, timeout: float) -> None:
        """Wait until all that it keeps has arrived, at most so long."""

    def abort(self) -> None:
        """Let a `send` that waits fail, from another thread."""

    def forsake(self) -> None:
        """Let go of what is the parent's, in a process that was forked."""
