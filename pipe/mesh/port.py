"""The data path of a session whose client is in another worker, where its topic is at home.

For the router it is a sink like any other, and for the intake a valve.  What is written travels to
the other worker, which says how much of it is written there: until then it is pending here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.mesh.frames import BadFrame, Kind, pack_flag, pack_offset
from pipe.mesh.link import pieces_of
from pipe.session.front import unwanted
from pipe.stream.chunks import CHUNK_COST, Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import Outcome
    from pipe.mesh.link import Link
    from pipe.session.front import Listener, Owner
    from pipe.stream.topics import Member

CREDIT_BYTES = 1 << 20
"""What a client may send ahead of what is published, as a window of SSH."""


class FarPort:
    """One session's port.

    It is clogged from when ``buffer`` bytes are pending (or so many chunks, see `CHUNK_COST`) until
    a quarter of that is, while the client's own port is clogged, and while the link is blocked.
    Once the client or the link is gone, what is pending stays so until the member leaves.

    Args:
        owner: the session.
        link: to the worker that has the client.
        number: the session's on the link.
        router: told of changes, once a member has been given to `bind`.
        buffer: bytes that may be pending before it is clogged.
    """

    def __init__(
        self, owner: Owner, link: Link, number: int, router: Listener, buffer: int
    ) -> None:
        self._owner = owner
        self._link = link
        self._number = number
        self._router = router
        self._buffer = buffer
        self._member: Member | None = None
        self._taken = 0
        self._taken_chunks = 0
        self._written = 0
        self._written_chunks = 0
        self._full = False
        self._far_clogged = False
        self._clogged = link.blocked
        self._flushing = False
        self._over = False
        self.on_first: Callable[[], None] | None = None  # before the first chunk
        self._feed: Callable[[Chunk], None] = unwanted
        self._reading = False
        self._came = 0  # bytes from the client
        self._credit = 0  # bytes that it may have sent in all

    def connect(self, feed: Callable[[Chunk], None]) -> None:
        """Pass what the client sends to ``feed``, chunk by chunk."""
        self._feed = feed

    def bind(self, member: Member, hears: Listener | None = None) -> None:
        """Report this member's sink from now on, and tell the client that it is on a topic."""
        self._member = member
        self._router = hears or self._router
        self._link.send(Kind.JOINED, self._number)

    def close(self) -> None:
        """Let go of everything, as the client is gone."""
        self._over = True
        self._feed = unwanted
        self._member = None

    def lose(self) -> None:
        """Nothing arrives any more: what is pending stays so, and holds nobody up."""
        self._over = True
        self._update()

    # -- the sink ---------------------------------------------------------------------------------

    @property
    def clogged(self) -> bool:
        """Whether it takes no more for now."""
        return self._clogged

    @property
    def pending(self) -> int:
        """Bytes taken that are not yet, or never will be, written to the client's connection."""
        return self._taken - self._written

    @property
    def queued(self) -> int:
        """The same: what the client's worker holds is not handed to its connection."""
        return self._taken - self._written

    def write(self, chunk: Chunk) -> None:
        """Send a chunk on; when the client is gone it stays pending for ever."""
        self._taken += chunk.size
        self._taken_chunks += pieces_of(chunk.size)
        if self._over:
            return
        if self.on_first:
            on_first, self.on_first = self.on_first, None
            on_first()
        self._link.write(self._number, chunk)
        if not self._full and self._weight() >= self._buffer:
            self._full = True
            self._update()

    def _weight(self) -> int:
        chunks = self._taken_chunks - self._written_chunks
        return max(self._taken - self._written, chunks * CHUNK_COST)

    def flush(self) -> None:
        """Tell the router once nothing is pending."""
        self._flushing = True
        self._settle()

    def _settle(self) -> None:
        if self._flushing and self._member and not self.pending:
            self._flushing = False
            self._router.flushed(self._member)

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Pass the end to the session."""
        self._owner.end_reading(outcome, exit_status)

    def cut(self, outcome: Outcome) -> None:
        """Pass the cut to the session."""
        self._owner.cut(outcome)

    def waited_for(self, others: bool) -> None:
        """Let the clock run where each byte that the client reads is seen."""
        self._link.send(Kind.WAITED, self._number, pack_flag(others))

    # -- the link ---------------------------------------------------------------------------------

    def mark(self, size: int, chunks: int) -> None:
        """So many bytes and chunks of all are written to the client's connection.

        Raises:
            BadFrame: it is less than before, or more than there were.
        """
        if not (
            self._written <= size <= self._taken
            and self._written_chunks <= chunks <= self._taken_chunks
        ):
            raise BadFrame("a mark that cannot be")
        if self._over:
            return
        self._written, self._written_chunks = size, chunks
        if self._full and self._weight() * 4 <= self._buffer:
            self._full = False
        self._settle()
        self._update()
        if not self.pending:
            self._owner.emptied()

    def clog(self, clogged: bool) -> None:
        """The client's own port is clogged, or no longer."""
        self._far_clogged = clogged
        self._update()

    def link_changed(self) -> None:
        """The link is blocked, or no longer."""
        self._update()

    def _update(self) -> None:
        clogged = not self._over and (self._full or self._far_clogged or self._link.blocked)
        if clogged != self._clogged:
            self._clogged = clogged
            if self._member:
                self._router.update(self._member)

    # -- receiving --------------------------------------------------------------------------------

    def charge(self, records: int) -> None:
        """Count so many records as the cost of the last publish: a link's reads are small."""

    def deliver(self, data: bytes) -> None:
        """Take what the client has sent.

        Raises:
            BadFrame: it is more than it might send.
        """
        self._came += len(data)
        if self._came > self._credit:
            raise BadFrame("more than there was credit for")
        self._feed(Chunk(data))
        if self._reading:
            self._grant()

    def pause_reading(self) -> None:
        """Take no more from the client than it already may send."""
        self._reading = False

    def resume_reading(self) -> None:
        """Let the client go on, as everything received so far has been taken."""
        self._reading = True
        self._grant()

    def _grant(self) -> None:
        """Give credit again once half of it is used up."""
        if (self._credit - self._came) * 2 < CREDIT_BYTES and not self._over:
            self._credit = self._came + CREDIT_BYTES
            self._link.send(Kind.CREDIT, self._number, pack_offset(self._credit))
