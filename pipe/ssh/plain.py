"""A connection that leaves everything to asyncssh: `--lane asyncssh`.

It uses none of asyncssh's private names, so that `pipe` can serve even if one of them is gone.

asyncssh handles all its input before it returns, and copies the rest for each packet: a read full
of the smallest packets stopped the event loop for more than a second.  So it gets a slice at a
time, and connections share the loop's turns as on the lane.  asyncssh also keeps every variable
that a client sets; here their names and values are emptied.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from asyncssh.constants import MSG_CHANNEL_REQUEST
from asyncssh.packet import Boolean, SSHPacket, String

from pipe.ssh.confirmation import ConfirmedChannel
from pipe.ssh.connection import Connection
from pipe.ssh.openssh import end_of_write_as_signal
from pipe.ssh.slices import FIRST_SLICE_BYTES, SIP_SLICE_BYTES, TURN_SECONDS, next_slice

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    import asyncssh

    from pipe.service import Service


CLOSE_SECONDS = 0.0001
"""How long it takes to end a session together with its connection."""


class PlainChannel(ConfirmedChannel):
    """asyncssh's channel, except that it keeps no variables and knows "end of write"."""

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Handle a packet; answer requests to set a variable, but keep nothing."""
        if pkttype == MSG_CHANNEL_REQUEST:
            request = SSHPacket(packet.get_remaining_payload())
            if request.get_string() == b"env":
                reply = Boolean(request.get_boolean())
                name, value = request.get_string(), request.get_string()
                request.check_end()  # refuse what asyncssh would refuse
                self.note_variable(name, value)
                packet = SSHPacket(String("env") + reply + String("") + String(""))
            else:
                packet = end_of_write_as_signal(packet)
        return super().process_packet(pkttype, pktid, packet)


class PlainConnection(Connection):
    """A connection on asyncssh's own data path.

    Args:
        loop: the event loop that it lives on.
        options: asyncssh's options, see `pipe.ssh.server`.
        service: what all connections share.
    """

    __slots__ = ("_input", "_queues", "_slice_bytes", "_start", "_waits")

    channel_class = PlainChannel
    share_seconds = TURN_SECONDS

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        service: Service,
    ) -> None:
        super().__init__(loop, options, service)
        self._queues = False
        self._waits = False  # while a packet is handled in a task
        self._input = b""
        self._start = 0  # offset of the next slice in the input
        self._slice_bytes = FIRST_SLICE_BYTES

    def data_received(self, data: bytes, datatype: asyncssh.DataType = None) -> None:  # noqa: ARG002
        """Handle a slice of the transport's input; reading goes on when nothing is left."""
        self._input = self._input[self._start :] + data
        self._start = 0
        if self._queues:
            return
        if not self.turns.spent:
            self._handle(self._slice_bytes, TURN_SECONDS)
        elif self._authenticated:
            self._handle(SIP_SLICE_BYTES, 0)
        else:
            self._go_on(more=True)  # a login may take as long as a full share

    def connection_lost(self, exc: Exception | None = None) -> None:
        """End, in a turn with enough time for all its sessions."""
        self.lose()
        self.turns.do(partial(self._end, exc))

    def _end(self, exc: Exception | None) -> None:
        # asyncssh ends the sessions in its own callback, right after this turn.
        self.turns.use(CLOSE_SECONDS * len(self.ports))
        super().connection_lost(exc)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Handle a packet; if that takes a while, do not read on meanwhile.

        The client's DISCONNECT may follow it, and would be lost if the end of TCP were seen first.
        """
        result = super().process_packet(pkttype, pktid, packet)
        if isinstance(result, bool) or not self._authenticated:
            return result
        self._waits = True
        return self._finish(result)

    async def _finish(self, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            self._clock.call_soon(self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        self._waits = False
        if not self._queues:
            self._go_on(more=self._start < len(self._input))

    def take_turn(self) -> bool:
        """Handle a full share now; input that is read next gets none."""
        self._queues = False
        self._handle(self._slice_bytes, TURN_SECONDS)
        return False

    def _handle(self, size: int, patience: float) -> None:
        """Handle slices of the input, the first of ``size`` bytes, for ``patience`` seconds."""
        used = self.turns.used
        started = now = time.monotonic()
        while self._start < len(self._input):
            piece = self._input[self._start : self._start + size]
            self._start += len(piece)
            super().data_received(piece)
            before, now = now, time.monotonic()
            if patience:
                size = self._slice_bytes = next_slice(self._slice_bytes, now - before)
            if now - started >= patience:
                break
        self.turns.use(now - started, used)
        self._go_on(more=self._start < len(self._input))

    def _go_on(self, *, more: bool) -> None:
        """Queue for the rest of the input, and pause the transport meanwhile."""
        if self.transport is None or self.transport.is_closing():
            more = False
            self._input, self._start = b"", 0
        elif more or self._waits:
            self.transport.pause_reading()
        else:
            self._input, self._start = b"", 0
            self.transport.resume_reading()
        if more:
            self._queues = True
            self.turns.queue(self)
