"""Gathers what a turn of the event loop has to write, so each reader costs one system call.

uvloop writes to the socket within ``transport.write``.  A turn that forwards eight packets to a
reader would make eight system calls; gathered it makes one.  All readers' packets are sealed into
the same piece of memory, one reader after the other, while it is warm in the processor's cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from pipe.limits.turns import Turns

ARENA_BYTES = 1 << 19
"""Twice what uvloop reads at once: a turn's packets for one reader, with their headers and tags."""

SHORT_BYTES = 2048
"""A single packet up to this size is sealed into its own memory: allocating that is faster than
pointing into the shared memory, 2.2 us against 4.8 for a message of 64 bytes."""

READ_BYTES = 1 << 18
"""How much a lane reads at once; uvloop reads as much into its own buffers."""

LEFT_OVER_BYTES = 1 << 16
"""Room in the input buffer for the beginning of a packet from the previous read."""


PACKET_COST = 8192
"""Bytes to count for a packet besides its own: sealing a tiny one takes as long as this many."""

TURN_LOAD = 24 * (1 << 20)
"""Bytes, counted like that, that a turn may give to its readers before it makes way for the other
connections: some 10 ms, and a read of full packets for 64 readers."""


class Flushable(Protocol):
    """A connection that has something to write."""

    def flush(self) -> None:
        """Write it."""

    def abandon(self) -> None:
        """End the connection, as its output cannot be written."""


class Outbox:
    """The connections of one server that have something to write.

    `flush` runs at the end of each turn in which a lane handled input.  What is written outside
    such a turn is flushed by its own callback, or after the step of `Turns` that wrote it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        self._loop = loop
        self._waiting: list[Flushable] = []
        self._scheduled = False
        self._depth = 0
        self.load = 0  # bytes that this turn has to seal
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

    @property
    def at_work(self) -> bool:
        """Whether a connection handles input right now."""
        return self._depth > 0

    def begin_turn(self) -> None:
        """Note that a connection begins to handle input."""
        self._depth += 1

    def end_turn(self) -> None:
        """Write what the connection's input led to."""
        self._depth -= 1
        if not self._depth:
            self.flush()

    def flush(self) -> None:
        """Write everything that waits, including what is added meanwhile."""
        self.load = 0
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for connection in waiting:
                try:
                    connection.flush()
                except Exception:  # noqa: BLE001 - it ends this connection and no other
                    connection.abandon()

    def renew_arena(self) -> None:
        """Take a new arena, as the transport still holds this one: the socket was full."""
        self.arena = bytearray(ARENA_BYTES)

    def _flush_step(self) -> None:
        """Write a step's output, unless a connection that is handling input will do so."""
        if self._waiting and not self._depth:
            self.flush()

    def _flush_later(self) -> None:
        self._scheduled = False
        self.flush()
