"""The data path of one request: the router's sink, and the valve of what the client sends.

The router hands over chunks from inside its own calls.  Once a response has begun, they go to the
transport from there, as long as that is empty; what is more waits for the request's task, in a
queue that is bounded as the ports of SSH are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from pipe.session.front import unwanted
from pipe.stream.chunks import CHUNK_COST

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import Outcome
    from pipe.session.front import Listener, Owner
    from pipe.stream.chunks import Chunk
    from pipe.stream.topics import Member
    from pipe.web.hangup import Watch

JOINED_BYTES = 64 * 1024
"""Small chunks that wait are written together, up to this: each write costs the same."""


class Bell:
    """Wakes the one task that waits for news."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """There is news."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Return what is done with the next ring."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter


class WebPort:
    """One request's port.

    It is clogged from when ``buffer`` bytes are queued (or so many chunks, see `CHUNK_COST`) until
    none is.  What is in the transport's buffer is pending too: it is kept at one write, as the
    transport is asked to say when it is empty.

    Args:
        owner: the session.
        transport: of the request's connection, open.
        router: told of changes, once a member has been given to `bind`.
        hangups: watches the connection while nothing is read from it.
        buffer: bytes that it may queue before it is clogged.
    """

    __slots__ = (
        "_buffer",
        "_clogged",
        "_descriptor",
        "_feed",
        "_flushing",
        "_handed",
        "_hangups",
        "_member",
        "_over",
        "_owner",
        "_queue",
        "_queued",
        "_router",
        "_taken",
        "_transport",
        "_written",
        "bell",
        "direct",
        "gate",
        "on_first",
        "on_resume",
        "reading",
        "reads_ahead",
    )

    def __init__(
        self,
        owner: Owner,
        transport: asyncio.Transport,
        router: Listener,
        hangups: Watch,
        buffer: int,
    ) -> None:
        self._owner = owner
        self._transport = transport
        self._router = router
        self._hangups = hangups
        self._buffer = buffer
        sock = transport.get_extra_info("socket")
        self._descriptor: int = sock.fileno() if sock else -1
        self._member: Member | None = None
        self._queue: deque[Chunk] | None = None
        self._queued = 0  # bytes that the transport has not been given
        self._handed = 0  # and those that it has been given since it was empty
        self._taken = 0
        self._written = 0
        self._clogged = False
        self._flushing = False
        self._over = False
        self._feed: Callable[[Chunk], None] = unwanted
        self.reading = False
        self.reads_ahead = False  # whether something is read while it is paused
        self.bell = Bell()
        self.gate = Bell()
        self.direct: Callable[[bytes | memoryview], None] | None = None  # to the transport at once
        self.on_first: Callable[[], None] | None = None  # before the first chunk is queued
        self.on_resume: Callable[[], None] | None = None  # once, when the client may send
        # To say when it is empty.  With TLS it would take 0 for being full when it is empty.
        encrypted = transport.get_extra_info("sslcontext") is not None
        transport.set_write_buffer_limits(high=int(encrypted), low=0)

    def connect(self, feed: Callable[[Chunk], None]) -> None:
        """Give what the client sends to ``feed``, chunk by chunk."""
        self._feed = feed

    def bind(self, member: Member, hears: Listener | None = None) -> None:
        """From now on, tell the router what happens to this member's sink."""
        self._member = member
        self._router = hears or self._router
        self.bell.ring()

    @property
    def bound(self) -> bool:
        """Whether it has its place on a topic."""
        return self._member is not None

    def close(self) -> None:
        """The session is over: let go of everything."""
        self.stop()
        self._hangups.forget(self._descriptor, self._transport.abort)
        self._feed = unwanted
        self._member = None
        self.direct = self.on_first = self.on_resume = None

    @property
    def over(self) -> bool:
        """Whether nothing will come any more but what is queued."""
        return self._over

    def stop(self, *, discard: bool = False) -> None:
        """Nothing more will come; what is queued stays to be taken, unless it is to be lost.

        What is lost stays pending, so that it never counts as delivered.
        """
        self._over = True
        if discard:
            self._queue = None
        self.bell.ring()
        self.gate.ring()

    # -- the sink ---------------------------------------------------------------------------------

    @property
    def clogged(self) -> bool:
        """Whether it wants no more for now."""
        return self._clogged

    @property
    def pending(self) -> int:
        """Bytes taken and not yet written to the connection; never more than there were before.

        What is lost with the connection stays pending.
        """
        if not self._transport.is_closing():
            unsent = min(self._transport.get_write_buffer_size(), self._handed)
            if not unsent:
                self._handed = 0
            self._written = max(self._written, self._taken - self._queued - unsent)
        return self._taken - self._written

    @property
    def queued(self) -> int:
        """Bytes taken and not yet handed to the connection."""
        return self._queued

    def write(self, chunk: Chunk) -> None:
        """Queue a chunk; where the connection is closing it stays pending for ever."""
        if self._over or self._transport.is_closing():
            self._taken += chunk.size
            self._queued += chunk.size
            self._clog(self._queued)
            return
        if self.on_first:
            notice, self.on_first = self.on_first, None
            notice()
        if self.direct and not self._queue and not self._transport.get_write_buffer_size():
            self._taken += chunk.size
            self._handed += chunk.size
            self.direct(chunk.data)
            if self._transport.get_write_buffer_size():
                self.bell.ring()  # its task tells when it is written
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(chunk)
        self._queued += chunk.size
        self._taken += chunk.size
        self.bell.ring()
        self._clog(max(self._queued, len(self._queue) * CHUNK_COST))

    def _clog(self, weight: int) -> None:
        if not self._clogged and weight >= self._buffer:
            self._clogged = True
            self._tell_router()

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

    # -- the request's task: what is to be written ------------------------------------------------

    def pop(self) -> Chunk | None:
        """Return the next chunk to be written, if there is one now."""
        return self._queue.popleft() if self._queue else None

    def join(self, chunk: Chunk) -> bytes | memoryview:
        """Return a chunk that was popped together with small ones that follow."""
        if not self._queue or chunk.size + self._queue[0].size > JOINED_BYTES:
            return chunk.data
        pieces, size = [chunk.data], chunk.size
        while self._queue and size + self._queue[0].size <= JOINED_BYTES:
            follower = self._queue.popleft()
            pieces.append(follower.data)
            size += follower.size
        return b"".join(pieces)

    @property
    def unsent(self) -> int:
        """Bytes that the transport has yet to write."""
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def handed(self, size: int) -> None:
        """The transport has been given so many bytes of what was taken."""
        self._queued -= size
        self._handed += size

    def drained(self) -> None:
        """The transport is empty, unless it is gone."""
        if self._queue or self.pending:
            return
        self._queue = None
        if self._flushing:
            self._flushing = False
            if self._member:
                self._router.flushed(self._member)
        self._owner.emptied()
        if self._clogged and not self._queue:
            self._clogged = False
            self._tell_router()

    def _tell_router(self) -> None:
        if self._member:
            self._router.update(self._member)

    # -- receiving --------------------------------------------------------------------------------

    def deliver(self, chunk: Chunk) -> None:
        """Take what the client has sent."""
        self._feed(chunk)

    def charge(self, records: int) -> None:
        """Whoever delivers looks at the clock."""

    def pause_reading(self) -> None:
        """Take nothing more from the client, and notice when it hangs up."""
        self.reading = False
        if not self.reads_ahead:
            self._watch()

    def resume_reading(self) -> None:
        """Go on."""
        self.reading = True
        self._hangups.forget(self._descriptor, self._transport.abort)
        self.gate.ring()
        if self.on_resume:
            notice, self.on_resume = self.on_resume, None
            notice()

    async def wait_reading(self) -> bool:
        """Wait until the client may send.

        Returns:
            False where nothing is wanted of it any more.
        """
        while not self.reading and not self._over:
            self._watch()
            await self.gate.wait()
        return not self._over

    def _watch(self) -> None:
        if not self._over and not self._transport.is_closing():
            self._hangups.watch(self._descriptor, self._transport.abort)
