"""asyncssh's channel, with a session's ways to end it, and a note of the client's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST
from asyncssh.packet import Boolean, String, UInt32

from pipe.ssh.windows import WindowedChannel

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from asyncssh.packet import SSHPacket


class Keyed(Protocol):
    """What a channel asks of its connection about keys."""

    keys: int
    """How many new ones what is sent has had."""

    left_before_keys: int
    """For which ones the client was waiting when it said goodbye; 0: for none."""


class ConfirmedChannel(WindowedChannel):
    """A session's channel.

    Attributes:
        end_sent: whether the client has been sent the end, behind all that there was.
    """

    end_sent = False
    _keys = 0  # with which ones
    _answered = False  # the client has closed it after we had

    def send_end(self, status: int) -> None:
        """Send end of file and the exit status; nothing may wait to be sent before them."""
        self.end_sent = True
        self._keys = cast("Keyed", self.get_connection()).keys
        self.write_eof()
        self.exit(status)

    def cut(self, status: int) -> None:
        """Send the exit status at once, and throw away what waits."""
        self.send_packet(MSG_CHANNEL_REQUEST, String("exit-status"), Boolean(False), UInt32(status))
        self.abort()

    @property
    def confirmed(self) -> bool:
        """Whether the client has said that it has everything, up to the end.

        It does so by closing the channel after us: clients do that when they have handed on all
        that came before (RFC 4254, section 5.3).  The end of a connection is no answer, not even
        with a DISCONNECT: `ssh` sends one as well when a signal ends it, whatever it has not read.

        Only of a client that waits for new keys, with the end sent under older ones, a DISCONNECT
        has to do.  It may close no channel meanwhile (RFC 4253, section 7.1), and `ssh` does not
        stay until it may if it has asked for new keys at the very end.
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
