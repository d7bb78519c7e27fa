"""The sending half of a connection on the lane: it gathers what a turn of the loop has to write.

Stream packets wait unsealed until the turn is over.  Then all are sealed into one piece of memory
and written with one system call.  asyncssh seals its own packets at once; earlier stream packets
are sealed before them, so that packet and cipher counters go up in the order that the client reads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from asyncssh.constants import MSG_IGNORE
from asyncssh.encryption import GCMEncryption

from pipe.ssh.connection import Connection
from pipe.ssh.lane.cipher import Sealer, sealed_size
from pipe.ssh.lane.outbox import PACKET_COST, SHORT_BYTES

if TYPE_CHECKING:
    import asyncio

    import asyncssh
    from asyncssh.packet import SSHPacketLogger

    from pipe.service import Service
    from pipe.ssh.lane.outbox import Outbox

MAX_SEQUENCE = 0xFFFFFFFF


class SendingConnection(Connection):
    """A connection that writes once per turn.

    Args:
        loop: the event loop that it lives on.
        options: asyncssh's options, see `pipe.ssh.server`.
        service: what all connections share.
        outbox: flushes it when the turn is over.
    """

    __slots__ = ("_flush_due", "_frames", "_outbox", "_packets")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        service: Service,
        outbox: Outbox,
    ) -> None:
        super().__init__(loop, options, service)
        self._outbox = outbox
        self._frames: list[bytes | bytearray] = []  # sealed, to write before the packets
        self._packets: list[bytes] = []  # stream packets to seal when the turn is over
        self._flush_due = False

    def send_packet(
        self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None
    ) -> None:
        """Send one of asyncssh's packets, after those of the lane, with the same counter."""
        if pkttype == MSG_IGNORE:
            return  # sooner than it would be left out below
        if type(self._send_encryption) is GCMEncryption:
            self._sealer()
        if self._packets:
            self._seal_packets()
        super().send_packet(pkttype, *args, handler=handler)

    def send_stream(self, packet: bytes) -> None:
        """Send a stream packet; never call this while the connection is blocked."""
        self._packets.append(packet)
        self._outbox.load += len(packet) + PACKET_COST
        if not self._flush_due:
            self._wait_for_flush()
        self._send_seq = (self._send_seq + 1) & MAX_SEQUENCE
        self._rekey_bytes_sent += len(packet)
        if self._rekey_bytes_sent >= self._rekey_bytes:
            self._start_rekey_if_due()

    def charge(self, load: int) -> None:
        """Add to the turn's load: this connection's work took as long as sending so many bytes."""
        self._outbox.load += load

    def _send(self, data: bytes) -> None:
        """Send a packet that asyncssh has encoded."""
        self._frames.append(data)
        if not self._flush_due:
            self._wait_for_flush()

    def _wait_for_flush(self) -> None:
        self._flush_due = True
        self._outbox.add(self)

    @property
    def holds_back(self) -> bool:
        """Whether sent bytes have not reached the transport, or never will."""
        return self._flush_due or super().holds_back

    def _seal_packets(self) -> None:
        """Seal this turn's stream packets, as the next packet is sealed at once."""
        target = bytearray(sealed_size(self._packets))
        self._seal_into(memoryview(target))
        self._frames.append(target)

    def _seal_into(self, target: memoryview) -> int:
        seal_into, stop = self._sealer().seal_into, 0
        for packet in self._packets:
            stop = seal_into(packet, target, stop)
        self._packets.clear()
        return stop

    def _sealer(self) -> Sealer:
        """The sealer in use; adopts asyncssh's key if it is new."""
        sealer = self._send_encryption
        if type(sealer) is not Sealer:
            sealer = self._send_encryption = Sealer.adopt(cast("GCMEncryption", sealer))
        return sealer

    def flush(self) -> None:
        """Write this turn's packets to the transport."""
        self._flush_due = False
        transport = self._transport
        if transport is None or transport.is_closing():
            self._frames.clear()
            self._packets.clear()
            return
        if self._frames:
            if self._packets:
                self._seal_packets()
            frames, self._frames = self._frames, []
            transport.writelines(frames)
        elif len(self._packets) == 1 and len(self._packets[0]) <= SHORT_BYTES:
            transport.write(self._sealer().seal(self._packets.pop()))
        elif self._packets:
            arena, size = self._outbox.arena, sealed_size(self._packets)
            # A transport that cannot write everything at once keeps the whole arena alive.
            shared = size <= len(arena) and not transport.get_write_buffer_size()
            view = memoryview(arena if shared else bytearray(size))
            transport.write(view[: self._seal_into(view)])
            if shared and transport.get_write_buffer_size():
                self._outbox.renew_arena()
        if not (self.lost or self._rekey_timer or transport.is_closing()):
            for port in tuple(self.ports):
                port.settle()

    def abandon(self) -> None:
        """Close without what waits, as it cannot be written; asyncssh does so after any error."""
        self._frames.clear()
        self._packets.clear()
        self.internal_error()

    def _force_close(self, exc: Exception | None) -> None:
        """Close, after what has been sent so far."""
        self.lost = True
        self.flush()
        self.lose()
        super()._force_close(exc)

    def _start_rekey_if_due(self) -> None:
        """Start a key exchange when asyncssh's own sending would: after bytes or seconds."""
        due = self._rekey_bytes_sent >= self._rekey_bytes or (
            self._rekey_seconds and time.monotonic() >= self._rekey_time
        )
        if due and self._kex_complete:
            self._send_kexinit()
            self._kexinit_sent = True
