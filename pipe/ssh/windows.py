"""asyncssh's channel, with its windows (RFC 4254, section 5.2) managed by us.

asyncssh's own backpressure has an unbounded cost: a paused channel keeps each packet as an object
in a list, removes them one by one from the head, and keeps an end of file and a close behind them.
So here a channel is never paused.  Input is taken at once, and only the window slows the client:
its port opens it, and asyncssh's own window updates are suppressed.

This uses only asyncssh's public methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import SSHPacket, UInt32

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from asyncssh.session import SSHSession

MAX_PACKET_BYTES = 32_768
"""The largest chunk: what RFC 4253, section 6.1, requires every peer to take, and what OpenSSH
uses."""

MAX_WINDOW = 2**32 - 1
"""The largest window (RFC 4254, section 5.2)."""

_DATA = frozenset((MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA))
_LENGTH_BYTES = 4


class Windowed(SSHChannel[bytes]):
    """A channel of either kind whose receive window only its port opens."""

    _peer_window = 0

    @property
    def peer_window(self) -> int:
        """How many bytes the client would take now."""
        return self._peer_window

    def process_open(
        self,
        send_chan: int,
        send_window: int,
        send_pktsize: int,
        session: SSHSession[Any] | Awaitable[SSHSession[Any]],
    ) -> None:
        """Begin, with the window that the client announced."""
        self._peer_window = send_window
        super().process_open(send_chan, send_window, send_pktsize, session)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Handle a packet.

        Raises:
            ProtocolError: the client's window would exceed `MAX_WINDOW`.
        """
        if pkttype == MSG_CHANNEL_WINDOW_ADJUST:
            grown = SSHPacket(packet.get_remaining_payload()).get_uint32()
            if self.peer_window + grown > MAX_WINDOW:
                raise asyncssh.ProtocolError("Window adjust overflow")
            self._peer_window += grown
        return super().process_packet(pkttype, pktid, packet)

    def send_packet(self, pkttype: int, *args: bytes) -> None:
        """Send a packet, but drop window updates: asyncssh sends them for all that it delivered."""
        if pkttype == MSG_CHANNEL_WINDOW_ADJUST:
            return
        if pkttype in _DATA:
            self._peer_window -= len(args[-1]) - _LENGTH_BYTES
        super().send_packet(pkttype, *args)

    def open_window(self, size: int) -> None:
        """Let the client send ``size`` more bytes."""
        super().send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(size))


class WindowedChannel(Windowed, asyncssh.SSHServerChannel[bytes]):
    """A session's channel."""


class TunnelChannel(Windowed, asyncssh.SSHTCPChannel[bytes]):
    """A tunnel's channel."""
