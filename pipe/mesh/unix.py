"""Links between the workers of one machine: Unix sockets in a folder that nobody else may open.

Before each frame stands its length.  Frames are handed on as views of the buffer that is read into.
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING, cast

from pipe.errors import StartError, Unreachable
from pipe.mesh.frames import MAX_READERS
from pipe.mesh.link import PIECE_BYTES
from pipe.mesh.wire import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.link import Link
    from pipe.mesh.peers import Peers
    from pipe.mesh.wire import End, Pieces

HIGH_WATER_BYTES = 1 << 20
"""Unsent bytes from which on a wire is blocked."""

LOW_WATER_BYTES = 256 * 1024
"""Unsent bytes with which it is no longer."""

READ_BYTES = 256 * 1024
"""What is read at once: a turn's work, and what uvloop reads at most."""

MAX_FRAME_BYTES = PIECE_BYTES * 2 + 8 * MAX_READERS
"""The longest frame that is taken."""

_LENGTH = struct.Struct(">I")


class UnixWire(asyncio.BufferedProtocol):
    """One end of a connection: a `pipe.mesh.wire.Wire`.

    Args:
        end: told of frames, once there is a transport.
        connected: called with this once there is one.
        used: called with the seconds that the frames of a read took.
    """

    def __init__(
        self,
        end: End,
        connected: Callable[[UnixWire], None],
        used: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._end = end
        self._connected = connected
        self._used = used
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(READ_BYTES)
        self._filled = 0
        self._is_blocked = False
        self._closed = False

    # -- the wire ---------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Whether more than `HIGH_WATER_BYTES` are unsent."""
        return self._is_blocked

    def send(self, frames: Sequence[Pieces]) -> None:
        """Send some frames in one write."""
        if self._transport is None or self._closed:
            return
        pieces: list[bytes | memoryview] = []
        for frame in frames:
            pieces.append(_LENGTH.pack(size_of(frame)))
            pieces.extend(frame)
        self._transport.writelines(pieces)

    @property
    def unsent(self) -> int:
        """How many bytes are unsent."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    @property
    def rtt(self) -> None:
        """It is no network."""

    def close(self) -> None:
        """End it now."""
        self._closed = True
        if self._transport:
            self._transport.abort()

    # -- the transport ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)
        self._connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where to put what comes next."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on the frames that are whole."""
        started = time.monotonic()
        stop = self._filled + nbytes
        start, needed = 0, 0
        view = memoryview(self._buffer)
        while stop - start >= _LENGTH.size and not self._closed:
            (length,) = _LENGTH.unpack_from(view, start)
            if length > MAX_FRAME_BYTES:
                self.close()
                self._end.lost("it sent a frame that is too long")
                return
            needed = _LENGTH.size + length
            if stop - start < needed:
                break
            self._end.received(view[start + _LENGTH.size : start + needed])
            start += needed
        self._keep(start, stop, needed)
        self._used(time.monotonic() - started)

    def _keep(self, start: int, stop: int, needed: int) -> None:
        """Move the frame that is not whole to the front of a buffer that it fits into."""
        rest = memoryview(self._buffer)[start:stop]
        if needed > len(self._buffer):
            self._buffer = bytearray(needed + READ_BYTES)
        memoryview(self._buffer)[: len(rest)] = rest
        self._filled = len(rest)

    def pause_writing(self) -> None:
        """The wire is blocked."""
        self._is_blocked = True
        self._end.wire_blocked(True)

    def resume_writing(self) -> None:
        """The wire is free again."""
        self._is_blocked = False
        self._end.wire_blocked(False)

    def eof_received(self) -> None:
        """The other end is gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        if not self._closed:
            self._closed = True
            self._end.lost(str(exc) if exc else "its connection has ended")


class Sockets:
    """The sockets of one machine's workers.

    Args:
        peers: who they are.
        used: called with the seconds that the frames of a read took.
    """

    def __init__(self, peers: Peers, used: Callable[[float], None] = lambda _: None) -> None:
        self._peers = peers
        self._used = used

    async def listen(self, accept: Callable[[], Link]) -> asyncio.Server:
        """Take links from other workers.

        Args:
            accept: makes this side's end of a new link.

        Raises:
            StartError: there can be no such socket.
        """

        def make() -> UnixWire:
            link = accept()
            return UnixWire(link, link.attach, self._used)

        path = self._peers.own.at
        try:
            return await asyncio.get_running_loop().create_unix_server(make, str(path))
        except OSError as error:
            raise StartError(f"cannot listen on {path}: {error.strerror or error}") from None

    async def connect(self, worker: WorkerId, link: Link) -> None:
        """Open a link to another worker.

        Raises:
            Unreachable: it is not there.
        """
        try:
            peer = self._peers.others[worker]
            await asyncio.get_running_loop().create_unix_connection(
                lambda: UnixWire(link, link.attach, self._used), str(peer.at)
            )
        except (KeyError, OSError):
            raise Unreachable(f"worker {worker} cannot be reached: try again") from None
