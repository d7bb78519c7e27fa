"""What a command writes that goes on answering, no faster than its client reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipe.stream.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.session.front import Port

PIECE_BYTES = 32 * 1024
"""What is written at a time: a packet.  More waits in the feed, which has a bound of its own."""


class Feed(Protocol):
    """Where the lines come from."""

    def connect(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there may be something to take; it does not raise."""

    def take(self, most: int) -> bytes:
        """Take whole lines of some ``most`` bytes; empty: there are none now."""

    def close(self) -> None:
        """Nothing more is wanted."""


class Outflow:
    """A feed on its way to a client: a piece at a time, the next when that is gone.

    Args:
        port: the client's.
        feed: what it reads.
        line_end: what ends a line there.
    """

    def __init__(self, port: Port, feed: Feed, line_end: bytes) -> None:
        self._port = port
        self._feed = feed
        self._line_end = line_end
        self._pumping = False
        feed.connect(self.pump)

    def pump(self) -> None:
        """Write what there is, as far as the client keeps up; a port may call this from inside."""
        if self._pumping:
            return
        self._pumping = True
        port = self._port
        while not (port.queued or port.clogged) and (data := self._feed.take(PIECE_BYTES)):
            if self._line_end != b"\n":
                data = data.replace(b"\n", self._line_end)
            port.write(Chunk(data))
        self._pumping = False

    def close(self) -> None:
        """Write no more."""
        self._feed.close()
