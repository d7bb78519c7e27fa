"""One channel's data path: the router's sink, and the tap on what the client sends.

This is the plain form, on asyncssh's public channel methods.  `pipe.ssh.lane` has the fast one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import asyncssh

from pipe.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import Outcome
    from pipe.members import Member
    from pipe.router import Router
    from pipe.ssh.channel.windows import WindowedChannel
    from pipe.ssh.connection import Connection

CHUNK_COST = 512
"""Bytes that a chunk takes in memory however little is in it, so a port with N bytes of buffer is
clogged by N / 512 chunks as well.  Without it a stalled reader of one-byte chunks held 400 MB."""


class Owner(Protocol):
    """What a port asks of the session that it belongs to."""

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """The stream is over for this reader; the last byte may still be pending."""

    def cut(self, outcome: Outcome) -> None:
        """End now, whatever is pending."""

    def waited_for(self, others: bool) -> None:
        """While clogged: whether other readers wait for this one."""

    def emptied(self) -> None:
        """Nothing is pending any more."""


class Port:
    """The sending half of a channel as a `pipe.members.Sink`, and the valve of its receiving half.

    It is clogged from when ``buffer`` bytes are pending (or so many chunks, see `CHUNK_COST`)
    until none is, and while its connection is blocked. The most that it holds is ``buffer`` and
    one chunk.

    Args:
        owner: the session.
        channel: asyncssh's channel, open.
        connection: the connection that carries it.
        router: told of changes, once a member has been given to `bind`.
        buffer: bytes that it may hold before it is clogged.
    """

    def __init__(
        self,
        owner: Owner,
        channel: WindowedChannel,
        connection: Connection,
        router: Router,
        buffer: int,
    ) -> None:
        self._owner = owner
        self._channel = channel
        self._connection = connection
        self._router = router
        self._buffer = buffer
        self._member: Member | None = None
        self._full = False
        self._waiting = 0  # chunks that have waited since the channel's buffer was empty
        self._clogged = connection.blocked
        self._flushing = False
        self._pending = 0
        self._feed: Callable[[Chunk], None] = _drop
        self._reading = False  # until the session has been told what to do with what comes
        self._window = channel.get_recv_window()
        self._room = self._window  # what the client may send before the window opens again
        connection.ports[self] = None
        channel.resume_reading()  # asyncssh would keep what comes before the request is accepted
        # With these marks asyncssh calls resume_writing each time that its buffer has become empty.
        channel.set_write_buffer_limits(high=0, low=0)

    def connect(self, feed: Callable[[Chunk], None]) -> None:
        """Give what the client sends to ``feed``, chunk by chunk."""
        self._feed = feed

    def bind(self, member: Member) -> None:
        """From now on, tell the router what happens to this member's sink."""
        self._member = member

    def close(self) -> None:
        """The channel is gone: let go of everything."""
        self._connection.ports.pop(self, None)
        self._feed = _drop
        self._member = None

    # -- the sink ---------------------------------------------------------------------------------

    @property
    def clogged(self) -> bool:
        """Whether it wants no more for now."""
        return self._clogged

    @property
    def pending(self) -> int:
        """Bytes taken and not yet written to the connection.

        asyncssh empties its buffer when a channel is cut or lost, before it tells; what was in it
        then stays pending, so that it never counts as delivered.
        """
        if not self._channel.is_closing():
            self._pending = self._channel.get_write_buffer_size()
        return self._pending

    def write(self, chunk: Chunk) -> None:
        """Take a chunk; a channel that is closing swallows it."""
        if self._channel.is_closing():
            return
        self._channel.write(chunk.data)
        if pending := self.pending:
            self._waiting += 1
            if not self._full and max(pending, self._waiting * CHUNK_COST) >= self._buffer:
                self._full = True
                self._update()

    def flush(self) -> None:
        """Tell the router once nothing is pending."""
        if self.pending:
            self._flushing = True
        elif self._member:
            self._router.flushed(self._member)

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Hand the end to the session."""
        self._owner.end_reading(outcome, exit_status)

    def cut(self, outcome: Outcome) -> None:
        """Hand the cut to the session."""
        self._owner.cut(outcome)

    def waited_for(self, others: bool) -> None:
        """Hand the news to the session."""
        self._owner.waited_for(others)

    # -- events from below ------------------------------------------------------------------------

    def connection_changed(self) -> None:
        """The connection is blocked now, or no more."""
        self._update()

    def emptied(self) -> None:
        """The channel's buffer has become empty."""
        self._full = False
        self._pending = 0
        self._waiting = 0
        if self._flushing:
            self._flushing = False
            if self._member:
                self._router.flushed(self._member)
        self._owner.emptied()
        self._update()

    def _update(self) -> None:
        clogged = self._full or self._connection.blocked
        if clogged != self._clogged:
            self._clogged = clogged
            if self._member:
                self._router.update(self._member)

    # -- receiving --------------------------------------------------------------------------------

    def deliver(self, data: bytes) -> None:
        """Take what asyncssh has received on the channel.

        Raises:
            ProtocolError: it is more than the window had room for.
        """
        self._room -= len(data)
        if self._room < 0:
            raise asyncssh.ProtocolError("Window exceeded")
        self._feed(Chunk(data))
        if self._reading:
            self._open_window()

    def pause_reading(self) -> None:
        """Take nothing more from the client than its window allows already."""
        self._reading = False

    def resume_reading(self) -> None:
        """Everything received so far has been taken: open the window again."""
        self._reading = True
        self._open_window()

    def _open_window(self) -> None:
        """Open the window to its full size once half of it is used up."""
        if self._room * 2 < self._window and not self._channel.is_closing():
            self._channel.open_window(self._window - self._room)
            self._room = self._window


def _drop(_chunk: Chunk) -> None:
    """Where chunks go until somebody wants them."""
