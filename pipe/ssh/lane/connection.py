"""The receiving half of a connection on the lane, with asyncssh for all but the stream.

It finds packets in the transport's input and opens each once.  CHANNEL_DATA and
CHANNEL_WINDOW_ADJUST of an open channel go straight to its port.  Every other packet goes to
asyncssh's own parser with its plaintext, so that asyncssh handles it as usual.  So does a stream
packet that is out of order, and asyncssh ends the connection as it always would.  Input that cannot
be a packet (a bad length, padding or tag) ends it here, in the same way.  While one of asyncssh's
handlers waits for something, the lane waits too; the first input meanwhile pauses the transport.

`TURN_PACKETS` and `TURN_SECONDS` bound what one connection does in a turn of the event loop, and
`pipe.limits.turns` what all of them do, so no peer starves another.

`pipe.ssh.lane.sending` does the sending.  The server's KEXINIT waits for the client's, see
`pipe.ssh.lane.steering`.
"""

from __future__ import annotations

import time
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, cast

import asyncssh
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_KEXINIT,
)
from asyncssh.encryption import GCMEncryption

from pipe.settings import Lane
from pipe.ssh.lane.channel import LaneChannel, LaneTunnelChannel
from pipe.ssh.lane.cipher import LENGTH_BYTES, TAG_BYTES, Opener, Sealer
from pipe.ssh.lane.close_event import CloseEvent
from pipe.ssh.lane.outbox import READ_BYTES, TURN_LOAD
from pipe.ssh.lane.port import BLOCK_BYTES, DATA_OFFSET, MIN_PADDING_BYTES, LanePort
from pipe.ssh.lane.reader import BufferReader
from pipe.ssh.lane.sending import MAX_SEQUENCE, SendingConnection
from pipe.ssh.lane.steering import GCM_CIPHERS, KEXINIT_PATIENCE_SECONDS, offers_gcm
from pipe.ssh.slices import (
    FIRST_SLICE_BYTES,
    SHARE_SECONDS,
    SIP_BYTES,
    SIP_SLICE_BYTES,
    TURN_SECONDS,
    next_slice,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from asyncssh.channel import SSHChannel
    from asyncssh.packet import SSHPacket

    from pipe.service import Service
    from pipe.session.front import Owner
    from pipe.ssh.lane.outbox import Outbox
    from pipe.ssh.port import Port

TURN_PACKETS = 128
"""Packets that one connection may handle per turn of the loop: a flood of one-byte packets takes
about 2 ms of each turn, and four reads of full packets fit."""

SIP_PACKETS = 8
"""How much of a sip a connection may handle when the turn's budget is used up."""

MEMORY = 0.9
"""The estimate of how long a full share takes falls at most to this part of itself each time."""

HAND_OVER_COST = 8
"""A packet that asyncssh handles counts as this many of `TURN_PACKETS`, as it costs more."""

_UINT32 = Struct(">I")
_CHANNEL_AND_NUMBER = Struct(">II")
_STREAM_MESSAGES = frozenset((MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST))
_PARSERS = frozenset(
    (
        asyncssh.SSHServerConnection._recv_version,
        asyncssh.SSHServerConnection._recv_pkthdr,
        asyncssh.SSHServerConnection._recv_packet,
    )
)


class LaneConnection(SendingConnection):
    """A connection whose streams bypass asyncssh."""

    __slots__ = (
        "_alive",
        "_buffer",
        "_has_share",
        "_input",
        "_kexinit_timer",
        "_opened",
        "_opener",
        "_queues",
        "_reading_paused",
        "_reads_sip",
        "_slice_bytes",
        "_start",
        "lane_ports",
        "share_seconds",
    )

    channel_class = LaneChannel
    tunnel_class = LaneTunnelChannel

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        service: Service,
        outbox: Outbox,
    ) -> None:
        super().__init__(loop, options, service, outbox)
        self._close_event = CloseEvent()  # type: ignore[assignment]  # all that is used of one
        self._queues = False
        self._has_share = False  # of this turn, however much others have used
        self._reads_sip = False
        self.share_seconds = TURN_SECONDS  # it starts on asyncssh's path
        self.lane_ports: dict[int, LanePort] = {}
        self._opener: Opener | None = None
        self._opened: tuple[bytes, bytes] | None = None  # a packet for asyncssh that waits
        self._input: bytes | memoryview = b""
        self._start = 0  # offset of the next packet in the input
        self._buffer = outbox.input
        self._slice_bytes = FIRST_SLICE_BYTES
        self._reading_paused = False
        self._alive = False
        self._kexinit_timer: asyncio.TimerHandle | None = None

    @property
    def lane(self) -> Lane:
        """Which data path this connection is on."""
        return Lane.FAST if self._uses_gcm() else Lane.ASYNCSSH

    def _uses_gcm(self) -> bool:
        gcm = (GCMEncryption, Opener, Sealer)
        return isinstance(self._recv_encryption, gcm) and isinstance(self._send_encryption, gcm)

    def create_server_channel(
        self,
        encoding: str | None = None,
        errors: str = "strict",
        window: int = 0,
        max_pktsize: int = 0,
    ) -> asyncssh.SSHServerChannel[bytes]:
        """Make a session's channel, for packets of this size."""
        self._update_recv_pktlen(max_pktsize)
        return super().create_server_channel(encoding, errors, window, max_pktsize)

    def create_tcp_channel(
        self,
        encoding: str | None = None,
        errors: str = "strict",
        window: int = 0,
        max_pktsize: int = 0,
    ) -> asyncssh.SSHTCPChannel[bytes]:
        """Make a tunnel's channel, for packets of this size."""
        self._update_recv_pktlen(max_pktsize)
        return super().create_tcp_channel(encoding, errors, window, max_pktsize)

    def make_port(self, owner: Owner, channel: SSHChannel[bytes]) -> Port:
        """Give a new session or tunnel its data path: the lane's if this connection is on it."""
        if self._opener is None or not self._uses_gcm():
            return super().make_port(owner, channel)
        made = cast("LaneChannel | LaneTunnelChannel", channel)  # by one of the two above
        return LanePort(owner, made, self, self._service.router, self._service.settings.buffer)

    # -- receiving --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and let the transport read into our own buffer."""
        super().connection_made(transport)
        if self._transport is not None:
            self._transport.set_protocol(BufferReader(self))

    def _send_version(self) -> None:
        """Begin the handshake, unless another process has done it."""
        if not self._session_id:
            super()._send_version()

    def get_buffer(self) -> memoryview:
        """Return where to put the next input: in the shared buffer, after what is left."""
        rest = self._rest()
        self._reads_sip = self._waits() or (self.turns.spent and not self._has_share)
        room = SIP_BYTES if self._reads_sip else READ_BYTES
        buffer = self._outbox.input
        if len(rest) > len(buffer) - room:
            buffer = memoryview(bytearray(len(rest) + room))
        buffer[: len(rest)] = rest
        self._buffer = buffer
        return buffer[len(rest) : len(rest) + room]

    def buffer_updated(self, size: int) -> None:
        """Handle ``size`` new bytes; other connections use the buffer once this returns."""
        self._input = self._buffer[: len(self._input) + size]
        self._handle_input(more=self._reads_sip and size == SIP_BYTES)
        self._rest()

    def take_turn(self) -> bool:
        """Handle a full share now, or of what is read next; return True for the latter."""
        self._queues = False
        if self._transport is None:
            return False
        self._has_share = True
        self._handle_input()
        return self._has_share

    def _queue(self) -> None:
        if not self._queues:
            self._queues = True
            self.turns.queue(self)

    def _rest(self) -> bytes:
        """Keep what is left of the input, and nothing else."""
        rest = self._input = bytes(self._input[self._start :])
        self._start = 0
        return rest

    def _handle_input(self, *, more: bool = False) -> None:
        """Handle as much of the input as fits this turn, and leave the rest for another.

        Args:
            more: whether there is more to read, so that it must queue in any case.
        """
        full = self._has_share or not self.turns.spent
        used, given = self.turns.used, bool(self._input or self._opened)
        started = time.monotonic()
        self._outbox.begin_turn()
        try:
            if full or self._authenticated:
                on_lane = self._on_lane()
                more |= self._handle_stream(full) if on_lane else self._feed_asyncssh(full)
            else:
                more = True  # a login may take as long as a full read
        except asyncssh.DisconnectError as error:
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        except Exception:  # noqa: BLE001 - as in asyncssh, it ends this connection and no other
            self.internal_error()
        finally:
            self._outbox.end_turn()
        took = time.monotonic() - started
        self.turns.use(took, used)
        if full and given:
            self._has_share = False
            self.share_seconds = max(took, self.share_seconds * MEMORY)
        if self._transport is None or self._transport.is_closing():
            self._input = b""
            return
        if more:
            self._queue()
        unhandled = len(self._input) > self._start or len(self._inpbuf) > 0
        hold = more or (unhandled and self._waits())
        if hold != self._reading_paused:
            self._reading_paused = hold
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _finish_recv_packet(
        self,
        pkttype: int,
        seq: int,
        _task: asyncio.Task[None] | None = None,
        is_async: bool = False,
    ) -> None:
        """Note that a packet was handled; if that took a while, handle what came meanwhile."""
        if pkttype in _STREAM_MESSAGES:
            self._alive = True
        super()._finish_recv_packet(pkttype, seq, _task, is_async)
        if is_async and self._transport is not None and (self._input or self._reading_paused):
            self._queue()

    def _waits(self) -> bool:
        """Whether no packet may be handled, as one of asyncssh's handlers is waiting."""
        return getattr(self._recv_handler, "__func__", None) not in _PARSERS

    def _on_lane(self) -> bool:
        """Return whether the next packet can be opened here; adopts asyncssh's key if new."""
        encryption = self._recv_encryption
        if encryption is None:
            return False
        if encryption is self._opener:
            return True
        if type(encryption) is GCMEncryption:
            encryption = self._recv_encryption = Opener.adopt(encryption)
        if (
            type(encryption) is Opener
            and self._auth_complete
            and not self._decompressor
            and self._recv_handler == self._recv_pkthdr
        ):
            self._opener = encryption
            self.share_seconds = SHARE_SECONDS
            if self._uses_gcm():
                self._stay_with_gcm()
            self._input, self._inpbuf = self._inpbuf + self._rest(), b""
            return True
        return False

    def _feed_asyncssh(self, full: bool) -> bool:
        """Feed asyncssh's own parser in slices, and return whether there is more to do now.

        Args:
            full: whether to feed it more than a single slice.
        """
        now = time.monotonic()
        deadline = now + TURN_SECONDS if full else now
        while self._start < len(self._input) and not self._waits():
            if self._on_lane():
                return True
            stop = self._start + (self._slice_bytes if full else SIP_SLICE_BYTES)
            self._inpbuf += self._input[self._start : stop]
            self._start = stop
            self._recv_data()
            if self._transport is None:
                return False
            before, now = now, time.monotonic()
            if full:
                self._slice_bytes = next_slice(self._slice_bytes, now - before)
            if now > deadline or self._outbox.load > TURN_LOAD:
                break
        return self._start < len(self._input) and not self._waits()

    def _handle_stream(self, full: bool) -> bool:
        """Handle the input's packets, or only a few; return whether there is more to do now."""
        data, start = self._input, self._start
        view, end = memoryview(data), len(data)
        opener, ports, longest = self._opener, self.lane_ports, self._max_recv_pktlen
        outbox = self._outbox
        if opener is None or self._waits():
            return False
        budget = TURN_PACKETS if full else SIP_PACKETS
        if self._opened:
            if not full:
                return True
            waiting, self._opened = self._opened, None
            if not self._hand_over(opener, *waiting):
                return self._transport is not None and not self._waits()
            longest = self._max_recv_pktlen
            budget -= HAND_OVER_COST
        while budget > 0 and end - start >= LENGTH_BYTES:
            body = start + LENGTH_BYTES
            (length,) = _UINT32.unpack_from(data, start)
            if not BLOCK_BYTES <= length <= longest or length % BLOCK_BYTES:
                raise asyncssh.ProtocolError("Bad packet length")
            stop = body + length + TAG_BYTES
            if stop > end:
                break
            packet = opener.open(view[start:body], view[body:stop])
            if packet is None:
                raise asyncssh.MACError("MAC verification failed")
            self._start = stop
            if self._take(packet, length, ports):
                self._recv_seq = (self._recv_seq + 1) & MAX_SEQUENCE
                budget -= 1
            elif full:
                if not self._hand_over(opener, packet, bytes(view[start:stop])):
                    return self._transport is not None and not self._waits()
                longest = self._max_recv_pktlen
                budget -= HAND_OVER_COST
            else:
                # Typed text does not come in such packets, so this one can wait its turn.
                self._opened = packet, bytes(view[start:stop])
                return True
            start = stop
            if self._transport is None:
                return False
            if outbox.load > TURN_LOAD:
                return True
        return budget <= 0

    def _hand_over(self, opener: Opener, packet: bytes, sealed: bytes) -> bool:
        """Let asyncssh handle a packet; return whether the same key opens the next one."""
        opener.hand_over(packet)
        self._inpbuf = sealed
        self._recv_data()
        if self._transport is None or self._waits():
            return False
        return self._on_lane() and self._opener is opener  # False if there is a new key

    def _take(self, packet: bytes, length: int, ports: dict[int, LanePort]) -> bool:
        """Handle a stream packet; return False if it is something else, or out of order."""
        kind = packet[1]
        if kind not in _STREAM_MESSAGES:
            return False
        channel, number = _CHANNEL_AND_NUMBER.unpack_from(packet, 2)
        port = ports.get(channel)
        if port is None:
            return False
        self._alive = True
        if packet[0] < MIN_PADDING_BYTES:
            raise asyncssh.ProtocolError("Bad padding length")  # it would reach all readers
        if kind == MSG_CHANNEL_DATA:
            return DATA_OFFSET + number + packet[0] == length and port.receive(packet, number)
        self._start_rekey_if_due()
        return DATA_OFFSET + packet[0] == length and port.adjust(number)

    # -- cipher steering --------------------------------------------------------------------------

    def _send_kexinit(self) -> None:
        """Send our KEXINIT; the first one waits until the client's KEXINIT shows its ciphers."""
        if self._session_id or self._kexinit_timer:
            super()._send_kexinit()
        else:
            self._kexinit_timer = self._clock.call_later(
                KEXINIT_PATIENCE_SECONDS, self._wait_no_longer
            )

    def _stay_with_gcm(self) -> None:
        """Agree only to AES-GCM in this and later key exchanges: the lane's ports rely on it."""
        self._enc_algs = [name for name in self._enc_algs if name in GCM_CIPHERS]

    def _wait_no_longer(self) -> None:
        if self._transport is not None:
            super()._send_kexinit()

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """Finish a key exchange, and drop what was signed in it."""
        self._client_kexinit = self._server_kexinit = b""
        super().send_newkeys(k, h)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Handle one of asyncssh's packets, but send our KEXINIT before the client's first one."""
        timer = self._kexinit_timer
        if pkttype == MSG_KEXINIT and not self._session_id and timer and not self._server_kexinit:
            timer.cancel()
            if offers_gcm(packet):
                self._stay_with_gcm()
            super()._send_kexinit()
        return super().process_packet(pkttype, pktid, packet)

    # -- keepalive --------------------------------------------------------------------------------

    def _reset_keepalive_timer(self) -> None:
        """Do nothing: to asyncssh any byte is a sign of life, even an endless row of IGNOREs."""

    def _keepalive_timer_callback(self) -> None:
        """Ask whether the client is alive, unless its streams have moved since the last time."""
        if self._alive:
            self._alive = False
            self._keepalive_count = 0
            self._set_keepalive_timer()
        else:
            super()._keepalive_timer_callback()

    def connection_lost(self, exc: Exception | None = None) -> None:
        """End, and stop the timer."""
        if self._kexinit_timer:
            self._kexinit_timer.cancel()
        super().connection_lost(exc)

    def _cleanup(self, exc: Exception | None) -> None:
        """Let go of everything, in a turn with enough time for all its sessions."""
        self.turns.do(partial(self._end, exc))

    def _end(self, exc: Exception | None) -> None:
        """Let go of everything, including itself: asyncssh's parser is a bound method."""
        super()._cleanup(exc)
        self._input, self._opened = b"", None
        self._recv_handler = _stop


def _stop() -> bool:
    """Stop parsing."""
    return False
