"""One channel on the lane: its receive window, its queue, and the packets that it sends.

The windows themselves stay in asyncssh's channel object, as both the lane and asyncssh use them
(asyncssh sends stderr).  Both follow RFC 4254, section 5.2: they never send more than the peer's
window or its maximum packet size.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Protocol

import asyncssh
from asyncssh.constants import MSG_CHANNEL_DATA

from pipe.ssh.port import Carrier, Port
from pipe.ssh.windows import MAX_WINDOW
from pipe.stream.chunks import CHUNK_COST, Chunk

if TYPE_CHECKING:
    from pipe.session.front import Listener, Owner
    from pipe.ssh.lane.channel import LaneChannel, LaneTunnelChannel

DATA_OFFSET = 10
"""Offset of the data in an opened CHANNEL_DATA packet: after the padding length (1 byte), the type
(1), the recipient channel (4) and the data's length (4)."""

BLOCK_BYTES = 16
"""AES's block: the length of an encrypted packet is a multiple of it (RFC 5647, section 7.2)."""

MIN_PADDING_BYTES = 4
"""RFC 4253, section 6."""

MAX_DATA_BYTES = 32_768
"""Data in one packet, even if a peer would take more: what RFC 4253, section 6.1, requires."""

RECORD_COST = 256
"""What a record that is dealt out counts for, in bytes of `outbox.TURN_LOAD`: a chunk may hold
32,768 of them."""

_PADDING = os.urandom(BLOCK_BYTES + MIN_PADDING_BYTES)
"""Padding need not be fresh under an AEAD cipher, which uses a new key stream for each packet."""


def data_packet(channel: int, data: bytes | memoryview) -> bytes:
    """Build an unsealed CHANNEL_DATA packet: padding length, payload and padding."""
    size = DATA_OFFSET + len(data)
    padding = -size % BLOCK_BYTES
    if padding < MIN_PADDING_BYTES:
        padding += BLOCK_BYTES
    head = bytes((padding, MSG_CHANNEL_DATA)) + channel.to_bytes(4, "big")
    return b"".join((head, len(data).to_bytes(4, "big"), data, _PADDING[:padding]))


class LaneCarrier(Carrier, Protocol):
    """The connection under a port of the lane."""

    lane_ports: dict[int, LanePort]
    """By the number of their channel."""

    def send_stream(self, packet: bytes) -> None:
        """Send a stream packet; never call this while the connection is blocked."""

    def charge(self, load: int) -> None:
        """Add this much to the turn's load, besides the packets."""


class LanePort(Port):
    """The lane's form of a port.

    What does not fit the peer's window waits in a queue of chunks; all readers of a topic share the
    chunks.  The port becomes clogged when ``buffer`` bytes wait, until only a quarter of that does.
    It is also clogged while its connection is blocked.
    """

    _channel: LaneChannel | LaneTunnelChannel
    _connection: LaneCarrier

    def __init__(
        self,
        owner: Owner,
        channel: LaneChannel | LaneTunnelChannel,
        connection: LaneCarrier,
        router: Listener,
        buffer: int,
    ) -> None:
        super().__init__(owner, channel, connection, router, buffer)
        self._queue: deque[Chunk] | None = None  # made when needed, as most readers keep up
        self._most = min(channel._send_pktsize, MAX_DATA_BYTES)
        self._number = channel._recv_chan
        if self._number is not None:
            connection.lane_ports[self._number] = self

    def close(self) -> None:
        """Let go of everything, as the channel is gone."""
        super().close()
        self._queue = None
        if self._number is not None:
            self._connection.lane_ports.pop(self._number, None)

    # -- receiving --------------------------------------------------------------------------------

    def receive(self, packet: bytes, size: int) -> bool:
        """Take an opened CHANNEL_DATA packet with ``size`` bytes of data.

        Returns:
            False if asyncssh must handle it: the channel is not open, or its window is overrun.
        """
        channel = self._channel
        if channel._recv_state != "open" or channel._send_state != "open":
            return False
        if not 0 < size <= channel._recv_window:
            return False
        channel._recv_window -= size
        data = memoryview(packet)[DATA_OFFSET : DATA_OFFSET + size]
        # A packet for channel 0 can go unchanged to all readers whose channel is also 0.
        self._feed(Chunk(data, None if self._number else packet))
        if self._reading and channel._recv_window * 2 < channel._init_recv_window:
            self._open_window()
        return True

    def charge(self, records: int) -> None:
        """Add records to the turn's load, besides the packets made from them."""
        self._connection.charge(records * RECORD_COST)

    def _open_window(self) -> None:
        channel = self._channel
        if channel._recv_window * 2 < channel._init_recv_window and channel._recv_state == "open":
            grown = channel._init_recv_window - channel._recv_window
            channel._recv_window = channel._init_recv_window
            channel.open_window(grown)

    # -- sending ----------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Bytes taken but not yet handed to the connection."""
        return self._queued

    def settle(self) -> None:
        """The connection has written all that it was handed; it reports this in each turn."""
        if self._flushing:
            super().settle()
        elif self._member:
            self._written = self._member.accepted_bytes - self._queued - self._lost

    def write(self, chunk: Chunk) -> None:
        """Seal a chunk and send it, or queue it until the window and the connection allow."""
        channel = self._channel
        size = chunk.size
        if (
            self._queued
            or size > channel._send_window
            or size > self._most
            or self._connection.blocked
            or channel._send_state != "open"
        ):
            self._enqueue(chunk)
            return
        channel._send_window -= size
        number = channel._send_chan
        packet = chunk.frame
        if number or packet is None:
            packet = data_packet(number or 0, chunk.data)
            if not number:
                chunk.frame = packet
        self._connection.send_stream(packet)

    def _enqueue(self, chunk: Chunk) -> None:
        if self._channel._send_state != "open":
            self._lose(chunk.size)
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(chunk)
        self._queued += chunk.size
        self.pump()
        if not self._full and self._weight() >= self._buffer:
            self._full = True
            self._update()

    def _weight(self) -> int:
        """The bytes that wait, or the cost of their chunks if that is more."""
        return max(self._queued, len(self._queue or ()) * CHUNK_COST)

    def pump(self) -> None:
        """Send as much of the queue as the window and the connection allow now."""
        channel = self._channel
        queue = self._queue
        while queue and channel._send_window and not self._connection.blocked:
            if channel._send_state != "open":
                return  # what is queued now never arrives
            chunk = queue[0]
            most = min(channel._send_window, self._most)
            if chunk.size > most:
                queue[0] = Chunk(memoryview(chunk.data)[most:])
                chunk = Chunk(memoryview(chunk.data)[:most])
            else:
                queue.popleft()
            self._queued -= chunk.size
            channel._send_window -= chunk.size
            number = channel._send_chan or 0
            packet = None if number else chunk.frame
            self._connection.send_stream(packet or data_packet(number, chunk.data))
        if self._full and self._weight() * 4 <= self._buffer:
            self._full = False
            self._update()
        if not queue:
            self.emptied()

    def adjust(self, grown: int) -> bool:
        """The peer has opened its window by ``grown`` bytes.

        Returns:
            False if asyncssh must handle it, as its own data waits for the window.

        Raises:
            ProtocolError: the window would exceed `MAX_WINDOW`.
        """
        channel = self._channel
        if channel._send_window + grown > MAX_WINDOW:
            raise asyncssh.ProtocolError("Window adjust overflow")
        if channel._send_buf or channel._recv_state not in {"open", "eof_pending", "eof"}:
            return False
        channel._send_window += grown
        if self._queue:
            self.pump()
        return True

    def emptied(self) -> None:
        """The channel's buffer or the queue has become empty; only both together count."""
        if self._queue:
            self.pump()  # text sent before it has left room in the window
        else:
            super().emptied()

    def connection_changed(self) -> None:
        """The connection is now blocked, or no longer is."""
        if self._queue and not self._connection.blocked:
            self.pump()
        super().connection_changed()
