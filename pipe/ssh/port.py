"""One channel's data path: the router's sink, and the valve on what the client sends.

This is the plain form, on asyncssh's public channel methods.  `pipe.ssh.lane` has the fast one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import asyncssh

from pipe.session.front import unwanted
from pipe.stream.chunks import CHUNK_COST, Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import Outcome
    from pipe.session.front import Listener, Owner
    from pipe.ssh.windows import Windowed
    from pipe.stream.topics import Member


class Carrier(Protocol):
    """The connection under a port."""

    blocked: bool
    """Whether it takes nothing for now; `Port.connection_changed` reports changes."""

    lost: bool
    """Whether nothing sent from now on arrives."""

    ports: dict[Port, None]
    """All ports that it carries."""

    @property
    def holds_back(self) -> bool:
        """Whether sent bytes have not reached the transport, or never will."""


class Port:
    """The sending half of a channel, the router's sink, and the valve of its receiving half.

    It becomes clogged when ``buffer`` bytes are queued (or so many chunks, see `CHUNK_COST`), and
    stays so until none are.  It is also clogged while its connection is blocked.  It holds at most
    ``buffer`` bytes and one chunk.

    Bytes are *queued* until they are handed to the connection, and *pending* until the connection
    gives them to its transport, at the end of the turn or of a key exchange.  Once the channel or
    connection is over, nothing more is written until the member leaves.

    Args:
        owner: the session.
        channel: asyncssh's channel, open.
        connection: the connection that carries it.
        router: told about changes once `bind` has set a member.
        buffer: bytes that it may hold before it is clogged.
    """

    def __init__(
        self,
        owner: Owner,
        channel: Windowed,
        connection: Carrier,
        router: Listener,
        buffer: int,
    ) -> None:
        self._owner = owner
        self._channel = channel
        self._connection = connection
        self._router = router
        self._buffer = buffer
        self._member: Member | None = None
        self._full = False
        self._waiting = 0  # chunks queued since the channel's buffer was empty
        self._clogged = connection.blocked
        self._flushing = False
        self._queued = 0
        self._lost = 0  # bytes that came when nothing could be written any longer
        self._written = 0
        self._feed: Callable[[Chunk], None] = unwanted
        self._reading = False  # False until the session knows what to do with input
        self._window = channel.get_recv_window()
        self._room = self._window  # bytes the client may send before the window opens again
        connection.ports[self] = None
        channel.resume_reading()  # or asyncssh keeps what comes before it accepts the request
        # With these marks asyncssh calls resume_writing each time its buffer becomes empty.
        channel.set_write_buffer_limits(high=0, low=0)

    def connect(self, feed: Callable[[Chunk], None]) -> None:
        """Pass what the client sends to ``feed``, chunk by chunk."""
        self._feed = feed

    def bind(self, member: Member, hears: Listener | None = None) -> None:
        """Report this member's sink to the router from now on."""
        self._member = member
        self._router = hears or self._router

    def close(self) -> None:
        """Let go of everything, as the channel is gone."""
        self._lost, self._queued = self.pending, 0
        self._connection.ports.pop(self, None)
        self._feed = unwanted
        self._member = None

    # -- the sink ---------------------------------------------------------------------------------

    @property
    def clogged(self) -> bool:
        """Whether it takes no more for now."""
        return self._clogged

    @property
    def pending(self) -> int:
        """Bytes taken that are not yet, or never will be, written to the connection."""
        if self._member is None:
            return self.queued + self._lost
        if not self._connection.holds_back:
            self._note_written(self._member)
        return self._member.accepted_bytes - self._written

    @property
    def queued(self) -> int:
        """Bytes taken but not yet handed to the connection.

        When a channel is cut or lost, asyncssh empties its buffer before it tells us.  Those bytes
        stay queued, so that they never count as delivered.
        """
        if not self._channel.is_closing() and not self._connection.lost:
            self._queued = self._channel.get_write_buffer_size()
        return self._queued

    def write(self, chunk: Chunk) -> None:
        """Take a chunk; if the channel is closing, it stays pending for ever."""
        if self._channel.is_closing() or self._connection.lost:
            self._lose(chunk.size)
            return
        self._channel.write(chunk.data)  # type: ignore[arg-type]  # it takes any buffer
        if queued := self.queued:
            self._waiting += 1
            if not self._full and max(queued, self._waiting * CHUNK_COST) >= self._buffer:
                self._full = True
                self._update()
        if not self._connection.holds_back:
            self.settle()

    def _lose(self, size: int) -> None:
        """Keep account of what can no longer be written, and be clogged by it as by any other."""
        self._lost += size
        if not self._full and self._lost >= self._buffer:
            self._full = True
            self._update()

    def flush(self) -> None:
        """Tell the router once nothing is pending."""
        self._flushing = True
        if not self._connection.holds_back:
            self.settle()

    def settle(self) -> None:
        """The connection has written all that it was handed."""
        member = self._member
        if member is None:
            return
        self._note_written(member)
        if self._flushing and self._written == member.accepted_bytes:
            self._flushing = False
            self._router.flushed(member)

    def _note_written(self, member: Member) -> None:
        # asyncssh's buffer also holds text for stderr, so it may seem to grow again.
        self._written = max(self._written, member.accepted_bytes - self.queued - self._lost)

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Pass the end to the session."""
        self._owner.end_reading(outcome, exit_status)

    def cut(self, outcome: Outcome) -> None:
        """Pass the cut to the session."""
        self._owner.cut(outcome)

    def waited_for(self, others: bool) -> None:
        """Pass it on to the session."""
        self._owner.waited_for(others)

    # -- events from below ------------------------------------------------------------------------

    def connection_changed(self) -> None:
        """The connection is now blocked, or no longer is."""
        if not self._connection.holds_back:
            self.settle()
        self._update()
        if not self._connection.blocked and not self.queued:
            self._owner.emptied()

    def emptied(self) -> None:
        """The channel's buffer has become empty."""
        self._full = False
        self._waiting = 0
        if not self._connection.holds_back:
            self.settle()
        self._owner.emptied()
        self._update()

    def _update(self) -> None:
        clogged = self._full or self._connection.blocked
        if clogged != self._clogged:
            self._clogged = clogged
            if self._member:
                self._router.update(self._member)

    # -- receiving --------------------------------------------------------------------------------

    def charge(self, records: int) -> None:
        """Count so many records as the cost of the last publish."""

    def deliver(self, data: bytes) -> None:
        """Take what asyncssh has received on the channel.

        Raises:
            ProtocolError: it is more than the window allowed.
        """
        self._room -= len(data)
        if self._room < 0:
            raise asyncssh.ProtocolError("Window exceeded")
        self._feed(Chunk(data))
        if self._reading:
            self._open_window()

    def pause_reading(self) -> None:
        """Take no more from the client than its window already allows."""
        self._reading = False

    def resume_reading(self) -> None:
        """Open the window again, as everything received so far has been taken."""
        self._reading = True
        self._open_window()

    def _open_window(self) -> None:
        """Open the window to its full size once half of it is used up."""
        if self._room * 2 < self._window and not self._channel.is_closing():
            self._channel.open_window(self._window - self._room)
            self._room = self._window
