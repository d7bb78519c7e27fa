"""A place on a topic of this process: the router's source and sink, without a network.

What the router hands over waits in a queue until the program asks for it, with the bounds and the
manners of the ports of SSH and HTTP: from ``buffer`` bytes on the seat is clogged.  A piece counts
as written once the program comes back for the next one, and the end as confirmed once it has been
asked for what follows the last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from pipe.errors import NobodyLeft, Outcome, UsageError
from pipe.language.requests import Framing, Publish, Subscribe
from pipe.language.wording import count
from pipe.library.ends import End, end_by, end_of
from pipe.library.streams import chunks_of
from pipe.session.patience import Patience
from pipe.session.stall import StallClock
from pipe.stream.chunks import CHUNK_COST, Chunk, Framer, RecordTooLong

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.requests import Pipe
    from pipe.stream.ports import Receipt
    from pipe.stream.router import Router
    from pipe.stream.topics import Member

GONE = end_of(Outcome.LEFT, "the program has left this stream")

SEPARATORS = {Framing.LINE: b"\n", Framing.NUL: b"\0"}


class Outlet:
    """A seat as the router's source: an object of its own, as both ports have a ``finish``."""

    def __init__(self, seat: Seat) -> None:
        self.pause = seat.pause
        self.resume = seat.resume
        self.waits = seat.waits
        self.finish = seat.delivered


class Seat:
    """One member's, made within the event loop that it lives in.

    Args:
        router: that it joins.
        request: what it wants there.
        buffer: bytes that it queues before it is clogged.
        stall_timeout: seconds after which it is cut off if others wait for it.
        tell: gets lines about the stream, for people.
    """

    member: Member

    def __init__(
        self,
        router: Router,
        request: Publish | Subscribe | Pipe,
        buffer: int,
        stall_timeout: float,
        tell: Callable[[str], None],
    ) -> None:
        self._router = router
        self._request = request
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._end: End | None = None
        self._over = asyncio.Event()
        # As a publisher.
        framing = Framing.NONE if isinstance(request, Subscribe) else request.framing
        self._separator = SEPARATORS.get(framing, b"")
        self._framer = Framer(self._separator) if self._separator else None
        self._sent_all = False
        self._open = asyncio.Event()  # it may publish, or need not wait for that any more
        self._patience = Patience(self._loop, tell, self._give_up)
        # As a reader.
        self._last: End | None = None  # the end, once what is queued was read
        self._news = asyncio.Event()
        self._queue: deque[Chunk] = deque()
        self._clogged = False
        self._flushing = False
        self._pending = 0
        self._in_hand = 0  # of that: what the program has, and has not come back for
        self._stall = StallClock(
            stall_timeout,
            progress=lambda: self.member.written_bytes,
            stalled=lambda: self.cut(Outcome.STALLED),
        )

    # -- the source -------------------------------------------------------------------------------

    def pause(self) -> None:
        """Publish nothing more for now."""
        if not self._end:
            self._open.clear()

    def resume(self) -> None:
        """Go on."""
        self._open.set()

    def waits(self, missing: int) -> None:
        """Wait for readers, as long as the request says."""
        if not isinstance(self._request, Publish):
            return
        try:
            self._patience.wait(self._request, missing, self.member.received_bytes)
        except NobodyLeft as error:
            self._leave(end_by(error))

    def _give_up(self, text: str) -> None:
        self._leave(end_of(Outcome.TIMEOUT, text))

    def delivered(self, receipt: Receipt) -> None:
        """Everything that was published has arrived."""
        outcome = Outcome.UNDELIVERED if receipt.undelivered else Outcome.DONE
        self._leave(end_of(outcome, receipt=receipt))

    # -- the sink ---------------------------------------------------------------------------------

    @property
    def clogged(self) -> bool:
        """Whether its queue is full."""
        return self._clogged

    @property
    def pending(self) -> int:
        """Bytes that the program has not dealt with; those that it never will stay pending."""
        return self._pending

    def write(self, chunk: Chunk) -> None:
        """Queue a chunk."""
        self._pending += chunk.size
        self._queue.append(chunk)
        self._news.set()
        if not self._clogged and self._weight >= self._buffer:
            self._clogged = True
            self._router.update(self.member)

    @property
    def _weight(self) -> int:
        return max(self._pending, len(self._queue) * CHUNK_COST)

    def flush(self) -> None:
        """Tell the router once nothing is pending."""
        self._flushing = True
        self._tell_flushed()

    def _tell_flushed(self) -> None:
        if self._flushing and not self._pending:
            self._flushing = False
            self._router.flushed(self.member)

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Nothing more will come; the end is told once what is queued was read."""
        text = outcome.text
        if outcome is Outcome.DROPPED:
            text = f"dropped {count(self.member.dropped_bytes, 'byte')}: this reader fell behind"
        self._last = End(outcome, exit_status or outcome.status, text)
        self._stall.stop()
        self._news.set()

    def cut(self, outcome: Outcome) -> None:
        """End now; what is queued is lost."""
        self._leave(end_of(outcome))

    def waited_for(self, others: bool) -> None:
        """Run the clock of law 4 while others wait."""
        if others and not self._end:
            self._stall.start()
        else:
            self._stall.stop()

    # -- the program ------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Publish bytes as soon as the router lets it.

        Raises:
            PipeError: the stream has ended.
        """
        for chunk in chunks_of(data):
            await self._wait_open()
            self._check_open()
            self._publish(chunk)

    async def _wait_open(self) -> None:
        """Wait until it may publish: what let it may be over again once its task has its turn."""
        while not self._open.is_set():
            await self._open.wait()

    def _check_open(self) -> None:
        if self._end:
            self._end.check()
        if self._end or self._sent_all:
            raise UsageError("the stream has ended: nothing can be written to it any more")

    def _publish(self, chunk: Chunk) -> None:
        if self._framer is None:
            self._router.publish(self.member, chunk)
            return
        try:
            records = self._framer.feed(chunk)
        except RecordTooLong as error:
            self._router.deal(self.member, error.records, self._separator)
            self._leave(end_by(error))
            raise
        self._router.deal(self.member, records, self._separator)

    async def send_eof(self) -> None:
        """End the stream, after what was held back of its last record."""
        if self._sent_all or self._end:
            return
        if self._framer and (last := self._framer.close()):
            await self._wait_open()
            self._router.publish(self.member, Chunk(last))  # of no effect if it has ended
        self._sent_all = True
        self._router.end(self.member)

    async def receive(self) -> bytes:
        """Return the next piece; empty at the end, which this confirms."""
        self._put_down()
        while not self._queue:
            if self._end:
                return b""
            if self._last:
                self.member.confirmed = True
                self._leave(self._last)
                return b""
            self._news.clear()
            await self._news.wait()
        chunk = self._queue.popleft()
        self._in_hand = chunk.size
        return bytes(chunk.data)

    def _put_down(self) -> None:
        """The program is done with what it was given before."""
        size, self._in_hand = self._in_hand, 0
        if self._end or not size:
            return
        self._pending -= size
        self._tell_flushed()
        if self._clogged and self._weight <= self._buffer // 2:
            self._clogged = False
            self._router.update(self.member)

    async def wait_end(self) -> End:
        """Wait until it has ended."""
        await self._over.wait()
        return self._end or GONE

    async def abort(self) -> None:
        """Leave now: to others, a publisher is broken, and a reader has left early."""
        self._leave(GONE)

    def drop(self) -> None:
        """Leave soon: garbage is found in any thread, and in the middle of whatever runs there."""
        if not self._end:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                self._loop.call_soon_threadsafe(self._leave, GONE)

    def _leave(self, end: End) -> None:
        if self._end:
            return
        self._end = end
        self._queue.clear()
        self._patience.stop()
        self._stall.stop()
        self._router.leave(self.member)
        self._over.set()
        self._open.set()
        self._news.set()
