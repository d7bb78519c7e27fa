"""What carries frames between two workers: a Unix socket, or TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipe.mesh.directory import WorkerId


Pieces: TypeAlias = "Sequence[bytes | memoryview]"
"""A frame as it is sent: what belongs together without having been copied together."""


def size_of(frame: Pieces) -> int:
    """Return how many bytes a frame has."""
    return sum(map(len, frame))


class Wire(Protocol):
    """A connection to one other worker; frames arrive whole and in order until it is lost.

    No call may raise.
    """

    def send(self, frames: Sequence[Pieces]) -> None:
        """Send some frames, each a message of at most 1 MiB and a head, whose memory never changes.

        A wire never refuses.  A user that goes on sending while it is blocked pays with memory.
        """

    @property
    def blocked(self) -> bool:
        """Whether more than 1 MiB is unsent; `End.wire_blocked` tells of changes.

        One that is blocked stays so until much less is unsent.
        """

    @property
    def unsent(self) -> int:
        """How many bytes are unsent."""

    @property
    def rtt(self) -> float | None:
        """Seconds there and back, as TCP has measured lately; None where that is no question."""

    def close(self) -> None:
        """End it now, whatever is unsent; `End.lost` is not called."""


class End(Protocol):
    """What a wire tells the end that it belongs to.  No call may raise."""

    def received(self, frame: memoryview) -> None:
        """A frame has come; its memory is the wire's again afterwards."""

    def wire_blocked(self, blocked: bool) -> None:
        """The wire has become blocked, perhaps within `Wire.send`, or no longer is."""

    def lost(self, reason: str) -> None:
        """The other end is gone, or a frame is; nothing comes from now on."""


Acceptor: TypeAlias = "Callable[[WorkerId, Wire], End]"
"""Makes the end of a wire that another worker has opened.  The wire may be sent on at once; nothing
is received before this returns."""
