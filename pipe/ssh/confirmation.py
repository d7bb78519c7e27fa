"""asyncssh's channel, with the ways a session ends it and a note of the client's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST
from asyncssh.packet import Boolean, String, UInt32

from pipe.ssh.windows import WindowedChannel

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from asyncssh.packet import SSHPacket


class Keyed(Protocol):
    """What a channel needs to know about its connection's keys."""

    keys: int
    """How many new keys outgoing packets have had."""

    left_before_keys: int
    """Which keys the client was waiting for when it disconnected; 0 for none."""


class ConfirmedChannel(WindowedChannel):
    """A session's channel.

    Attributes:
        end_sent: whether the client was sent the end, after all data.
        no_colour: whether it has sent ``NO_COLOR`` (https://no-color.org), the only variable that
            anybody asks for.
    """

    end_sent = False
    no_colour = False
    _keys = 0  # under which keys
    _answered = False  # whether the client closed it after we did

    def note_variable(self, name: bytes, value: bytes) -> None:
        """Note what a variable of the client's means, and keep nothing of it."""
        if name == b"NO_COLOR" and value:
            self.no_colour = True

    def send_end(self, status: int) -> None:
        """Send end of file and the exit status; nothing else may wait to be sent."""
        self.end_sent = True
        self._keys = cast("Keyed", self.get_connection()).keys
        self.write_eof()
        self.exit(status)

    def cut(self, status: int) -> None:
        """Send the exit status at once, and discard what waits."""
        self.send_packet(MSG_CHANNEL_REQUEST, String("exit-status"), Boolean(False), UInt32(status))
        self.abort()

    @property
    def confirmed(self) -> bool:
        """Whether the client confirmed that it has everything, up to the end.

        It does so by closing the channel after us: clients do that once they have passed on all
        earlier data (RFC 4254, section 5.3).  The end of a connection does not count, not even with
        a DISCONNECT: `ssh` also sends one when a signal ends it, whatever it has not read.

        A DISCONNECT counts only if the client waits for new keys and the end was sent under older
        ones.  The client may not close a channel meanwhile (RFC 4253, section 7.1), and `ssh` does
        not wait until it may if it asked for new keys at the very end.
        """
        if not self.end_sent:
            return False
        connection = cast("Keyed", self.get_connection())
        return self._answered or connection.left_before_keys > self._keys

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Handle a packet, and note a close that answers ours."""
        answers = pkttype == MSG_CHANNEL_CLOSE and self.is_closing()
        result = super().process_packet(pkttype, pktid, packet)
        self._answered |= answers
        return result
