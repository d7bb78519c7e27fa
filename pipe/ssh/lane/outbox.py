"""What a turn of the event loop has to write, so that it costs each reader one system call.

uvloop writes to the socket within ``transport.write``.  A turn that forwards eight packets to a
reader would be eight system calls; gathered they are one, and all readers are sealed into the
same piece of memory, one after the other, while it is warm in the processor's cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from pipe.limits.turns import Turns

ARENA_BYTES = 1 << 19
"""Twice what uvloop reads at once: a turn's packets for one reader, with their headers and tags."""

SHORT_BYTES = 2048
"""A single packet up to this is sealed into memory of its own: to point into the shared one takes
longer than to make so little, 4.8 us against 2.2 for a message of 64 bytes."""

READ_BYTES = 1 << 18
"""What a lane reads at once; uvloop, where it reads into a buffer of its own, takes as much."""

LEFT_OVER_BYTES = 1 << 16
"""Room in the input buffer for the beginning of a packet, which came with the read before."""


PACKET_COST = 8192
"""What a packet counts as beside its bytes: sealing a tiny one takes as long as so many bytes."""

TURN_LOAD = 24 * (1 << 20)
"""Bytes, counted like that, that a turn may have given to its readers before it makes way for the
other connections: some 10 ms, and a read of full packets for 64 readers."""


class Flushable(Protocol):
    """A connection that has something to write."""

    def flush(self) -> None:
        """Write it."""

    def abandon(self) -> None:
        """It cannot be written: end the connection."""


class Outbox:
    """The connections of one server that have something to write.

    `flush` is due at the end of each turn in which a lane handled input; what is written outside
    such a turn is flushed by a callback of its own, or after the step of `Turns` that it came from.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        self._loop = loop
        self._waiting: list[Flushable] = []
        self._scheduled = False
        self._depth = 0
        self.load = 0  # what this turn has to seal, in bytes
        self.turns = turns
        turns.written = self._flush_step
        self.arena = bytearray(ARENA_BYTES)
        self.input = memoryview(bytearray(LEFT_OVER_BYTES + READ_BYTES))

    def add(self, connection: Flushable) -> None:
        """Flush this connection soon; it adds itself once and then waits for the flush."""
        self._waiting.append(connection)
        if not self._depth and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_later)

    def begin_turn(self) -> None:
        """A connection begins to handle input."""
        self._depth += 1

    def end_turn(self) -> None:
        """It has done so: write what came of it."""
        self._depth -= 1
        if not self._depth:
            self.flush()

    def flush(self) -> None:
        """Write everything that waits; what comes up meanwhile, too."""
        self.load = 0
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for connection in waiting:
                try:
                    connection.flush()
                except Exception:  # noqa: BLE001 - it ends this connection and no other
                    connection.abandon()

    def renew_arena(self) -> None:
        """The socket did not take all, so the transport still holds the arena: leave it there."""
        self.arena = bytearray(ARENA_BYTES)

    def _flush_step(self) -> None:
        """Write what came of a step, unless a connection that handles input does so in the end."""
        if self._waiting and not self._depth:
            self.flush()

    def _flush_later(self) -> None:
        self._scheduled = False
        self.flush()
