"""A wire as a TLS stream of its own: each frame behind its length; an empty one is a beat.

Both ends show a certificate of the mesh's CA.  TCP keeps order and loses nothing, so there are no
numbers: what is missing at a wire's end is its last part.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from pipe.errors import StartError, Unreachable
from pipe.language.names import escape
from pipe.language.quantities import KIB, MIB
from pipe.mesh.arrivals import Arrivals
from pipe.mesh.greeting import MAX_GREETING
from pipe.mesh.pulse import SILENCE_SECONDS, Pulse
from pipe.mesh.wire import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipe.mesh.wire import End, Pieces

MAX_FRAME = MIB + 64 * KIB
"""Bytes of a message, its head and its readers; who sends more does not speak our protocol."""

HIGH_WATER = MIB
LOW_WATER = 256 * KIB
"""A wire is blocked above the first, until it is below the second: not for each frame anew."""

PIECE = 128 * KIB
"""Bytes for TLS at once.  It takes all that it is given before it says that it is too much."""

_HEAD = 4
"""Bytes of a frame's length."""

_READ = 256 * KIB
_FIRST_READ = 2 * MAX_GREETING
"""Bytes of the buffer that is read into: a stranger takes little of our memory."""

_BEAT = bytes(_HEAD)

_RTT = slice(68, 72)
"""Where tcpi_rtt is in struct tcp_info (linux/tcp.h): microseconds."""


class TlsWire(asyncio.BufferedProtocol):
    """One wire; a `Door` makes them.  Until `begin` nothing is read but the first frame.

    Attributes:
        closed: set once nothing of it is left.
    """

    def __init__(
        self,
        greeted: Callable[[TlsWire, bytes], None],
        early: Callable[[str], None],
        used: Callable[[float], None],
    ) -> None:
        self._greeted: Callable[[TlsWire, bytes], None] | None = greeted
        self._early = early
        self._used = used
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._pulse: Pulse | None = None
        self._end: End | None = None
        self._blocked = False
        self._over = False
        self._lost = ""  # why, before there was an end
        self._waiting = False
        self._paused = False
        self._queue: deque[Pieces] = deque()
        self._unsent = 0
        self._buffer = bytearray(_FIRST_READ)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._silence = SILENCE_SECONDS
        self.closed = asyncio.Event()

    def begin(self, end: End) -> None:
        """Tell an end what comes, from the first frame on, or that it has been lost meanwhile."""
        self._end = end
        if self._lost:
            end.lost(self._lost)
            return
        if len(self._buffer) < _READ:
            self._grow(_READ)
        if self._waiting and self._transport and not self._over:
            self._waiting = False
            self._transport.resume_reading()
            self._parse()

    @property
    def peer(self) -> dict[str, object]:
        """The other end's certificate, as `ssl.SSLSocket.getpeercert` has it."""
        found = self._transport.get_extra_info("peercert") if self._transport else None
        return found or {}

    # -- a wire's ---------------------------------------------------------------------------------

    def send(self, frames: Sequence[Pieces]) -> None:
        """Send some frames."""
        if self._over:
            return
        self._queue.extend(frames)
        self._unsent += sum(map(size_of, frames))
        self._flush()
        if self._pulse:
            self._pulse.sent()

    @property
    def blocked(self) -> bool:
        """Whether more than 1 MiB is unsent."""
        return self._blocked

    @property
    def unsent(self) -> int:
        """How many bytes are unsent."""
        return self._unsent + (self._transport.get_write_buffer_size() if self._transport else 0)

    @property
    def rtt(self) -> float | None:
        """Seconds there and back; None if the kernel does not say."""
        channel = self._transport.get_extra_info("socket") if self._transport else None
        return _round_trip(channel) if channel else None

    def close(self) -> None:
        """End it now."""
        self._over = True
        self._queue.clear()
        if self._pulse:
            self._pulse.stop()
        if self._transport:
            self._transport.abort()

    def finish(self, *last: Pieces) -> None:
        """Send some last frames, and end the wire once all is sent; `End.lost` is not called."""
        self.send(last)
        self._over = True
        if self._pulse:
            self._pulse.stop()
        if self._transport:
            self._transport.close()

    # -- the transport's ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is spoken, so the other end has a certificate."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(PIECE, PIECE // 4)
        _tune(self._transport.get_extra_info("socket"), self._silence)
        self._pulse = Pulse(self._loop, self._beat, self._silent, self._silence)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio passes it
        """Where the next bytes go."""
        if self._filled == len(self._buffer):
            self._grow(2 * self._filled)
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Some have come."""
        if self._over:
            return
        self._filled += nbytes
        if self._pulse:
            self._pulse.heard()
        started = time.monotonic()
        self._parse()
        self._used(time.monotonic() - started)

    def pause_writing(self) -> None:
        """TLS has enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """TLS takes more."""
        self._paused = False
        self._flush()

    def eof_received(self) -> None:
        """The other end has closed; `connection_lost` follows."""

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, whoever ended it."""
        self.closed.set()
        self._lose(_reason(error) if error else "it has closed the link")

    # -- inside -----------------------------------------------------------------------------------

    def _parse(self) -> None:
        """Hand on each whole frame, and move what is left to the front."""
        start = 0
        while self._filled - start >= _HEAD and not self._over:
            length = int.from_bytes(self._view[start : start + _HEAD])
            if length > (MAX_GREETING if self._greeted else MAX_FRAME):
                self._lose(f"it has sent a frame of {length} bytes")
                return
            stop = start + _HEAD + length
            if stop > self._filled:
                if stop - start > len(self._buffer):
                    self._grow(stop - start)
                break
            if length and not self._hand_on(self._view[start + _HEAD : stop]):
                break
            start = stop
        if start:
            rest = self._filled - start
            self._view[:rest] = self._view[start : self._filled]
            self._filled = rest

    def _hand_on(self, frame: memoryview) -> bool:
        """Return whether the frame was taken."""
        if self._end:
            self._end.received(frame)
            return True
        if not self._greeted:  # it waits for `begin`
            if self._transport and not self._waiting:
                self._waiting = True
                self._transport.pause_reading()
            return False
        greeted, self._greeted = self._greeted, None
        greeted(self, bytes(frame))
        return True

    def _grow(self, size: int) -> None:
        old = self._view[: self._filled]
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._view[: self._filled] = old

    def _flush(self) -> None:
        """Give TLS what it takes, in pieces: it would make a record even of a head of 4 bytes."""
        while self._queue and self._transport and not self._paused:
            parts: list[bytes | memoryview] = []
            size = 0
            while self._queue and size < PIECE:
                frame = self._queue.popleft()
                length = size_of(frame)
                parts += (length.to_bytes(_HEAD), *frame)
                size += length
            self._unsent -= size
            self._transport.write(b"".join(parts))
        if self._unsent > HIGH_WATER:
            self._block(blocked=True)
        elif self._unsent <= LOW_WATER:
            self._block(blocked=False)

    def _block(self, *, blocked: bool) -> None:
        if not self._over and blocked is not self._blocked:
            self._blocked = blocked
            if self._end:
                self._end.wire_blocked(blocked)

    def _beat(self) -> None:
        if self._transport and not self._queue:
            self._transport.write(_BEAT)

    def _silent(self) -> None:
        self._lose(f"it was silent for {self._silence:g} seconds")

    def _lose(self, reason: str) -> None:
        if self._over:
            return
        self.close()
        if self._end:
            self._end.lost(reason)
        else:
            self._lost = reason
            self._early(reason)


class Door:
    """Opens and accepts wires.  What is said first on them is left to whoever has it.

    Args:
        contexts: as `pipe.mesh.certificates.contexts` makes them.
        greeted: is told the first frame on each wire that somebody has opened.
        used: called with the seconds that the frames of a read took.
    """

    def __init__(
        self,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
        greeted: Callable[[TlsWire, bytes], None],
        used: Callable[[float], None] = lambda _: None,
    ) -> None:
        accepting, self._opening = contexts
        self._greeted = greeted
        self._used = used
        self._arrivals = Arrivals(accepting, self._make)

    async def listen(self, host: str, port: int) -> int:
        """Accept wires.

        Returns:
            The port: a free one if it was 0.

        Raises:
            StartError: the place cannot be had.
        """
        try:
            return await self._arrivals.listen(host, port)
        except OSError as error:
            raise StartError(
                f"cannot listen for the mesh on {escape(host)}:{port}: {_reason(error)}"
            ) from error

    async def dial(
        self,
        place: tuple[str, int],
        greeting: bytes,
        objection: Callable[[TlsWire], str | None] = lambda _: None,
    ) -> tuple[TlsWire, bytes]:
        """Open a wire, and return it with the first frame that it is answered.

        Args:
            place: where somebody listens.
            greeting: what is said first.
            objection: returns why that is not said to who is there, if it is not.

        Raises:
            Unreachable: with the reason, and no more than that.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes | str] = loop.create_future()  # the frame, or what came of it

        def settle(found: bytes | str) -> None:
            if not answer.done():
                answer.set_result(found)

        wire = TlsWire(lambda _, frame: settle(frame), settle, self._used)
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await loop.create_connection(
                    lambda: wire, *place, ssl=self._opening, ssl_handshake_timeout=SILENCE_SECONDS
                )
                found: bytes | str | None = objection(wire)
                if not found:
                    wire.send([(greeting,)])
                    found = await answer
        except TimeoutError:
            found = f"no answer within {SILENCE_SECONDS:g} seconds"
        except (OSError, ssl.SSLError) as error:
            found = _reason(error)
        except BaseException:
            wire.close()
            raise
        if isinstance(found, str):
            wire.close()
            raise Unreachable(found)
        return wire, found

    async def close(self) -> None:
        """Accept no more; wires stay."""
        await self._arrivals.close()

    def _make(self, known: Callable[[bool], None]) -> TlsWire:
        """Make what a connection of somebody else is for."""

        def greeted(wire: TlsWire, frame: bytes) -> None:
            known(True)
            self._greeted(wire, frame)

        return TlsWire(greeted, lambda _: known(False), self._used)


def misnamed(wire: TlsWire, node: str) -> str | None:
    """Say that the certificate at a wire's other end is another node's, if it is."""
    names = cast("tuple[tuple[str, str], ...]", wire.peer.get("subjectAltName", ()))
    if ("DNS", node) in names:
        return None
    shown = ", ".join(escape(name) for kind, name in names if kind == "DNS") or "nobody"
    return f"its certificate is for {shown} and not for {escape(node)}"


def _tune(channel: socket.socket | None, silence: float) -> None:
    if channel is not None:
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(silence * 1000))


def _round_trip(channel: socket.socket) -> float | None:
    """What `ss -i` shows as rtt, which is kept up by the beats."""
    try:
        info = channel.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT.stop)
    except (AttributeError, OSError):  # not on Linux, or it is closed
        return None
    return int.from_bytes(info[_RTT], sys.byteorder) / 1e6 if len(info) == _RTT.stop else None


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {escape(error.verify_message)}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return escape(error.reason.lower().replace("_", " "))
    return escape(getattr(error, "strerror", None) or str(error) or type(error).__name__)
