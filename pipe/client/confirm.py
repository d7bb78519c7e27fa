"""A channel's close as a confirmation: it is given only once the program has read everything.

The server takes a client's close for the confirmation that it has all (docs/reliability.md), as
`ssh` closes its channel once it has written the last byte.  asyncssh answers a close when it
arrives, with what came before it still in buffers.  So the close waits here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from asyncssh.constants import MSG_CHANNEL_CLOSE

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncssh
    from asyncssh.packet import SSHPacket


class HeldClose:
    """Keeps the server's close of a channel until it is let through.

    Args:
        channel: whose packets it sees from now on.
        notice: called when the close has come.
    """

    def __init__(
        self, channel: asyncssh.SSHClientChannel[bytes], notice: Callable[[], None]
    ) -> None:
        self._handle: Callable[[int, int, SSHPacket], Any] = channel.process_packet
        self._notice = notice
        self._through = False
        self._held: Callable[[], Any] | None = None
        channel.process_packet = self._take  # type: ignore[method-assign]

    @property
    def has_come(self) -> bool:
        """Whether the server has closed the channel, and waits for the answer."""
        return self._held is not None

    def let_through(self) -> None:
        """Answer the close as soon as it has come."""
        self._through = True
        held, self._held = self._held, None
        if held:
            held()

    def _take(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:  # noqa: ANN401
        if self._through or pkttype != MSG_CHANNEL_CLOSE:
            return self._handle(pkttype, pktid, packet)
        self._held = partial(self._handle, pkttype, pktid, packet)
        self._notice()
        return True
