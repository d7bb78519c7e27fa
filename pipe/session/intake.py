"""What a client sends, on its way to the router: a `pipe.stream.ports.Source`.

Nothing is published while the router has paused the source.  What the client's window still lets in
waits here, with small pieces packed together, so the window bounds it.  An end of file waits behind
the bytes before it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from pipe.language.requests import Framing
from pipe.session.collector import Collector
from pipe.stream.chunks import Backlog, Chunk, Framer, RecordTooLong
from pipe.stream.ports import Mode
from pipe.stream.topics import Member
from pipe.stream.traffic import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.errors import PipeError
    from pipe.limits.quotas import Bucket
    from pipe.limits.turns import Turns
    from pipe.stream.ports import Receipt

STEP_CHUNKS = 8
STEP_SECONDS = 0.0005
"""A step of `pipe.limits.turns` publishes so many waiting chunks, or as many as take so long.  All
resumed publishers share the turns, and a reader gets a step's chunks in one write."""

SEPARATORS = {Framing.LINE: b"\n", Framing.NUL: b"\0"}


class Valve(Protocol):
    """How an intake pauses and resumes its client."""

    def pause_reading(self) -> None:
        """Take no more from the client than it is already allowed to send."""

    def resume_reading(self) -> None:
        """Go on; this may feed the intake at once."""

    def charge(self, records: int) -> None:
        """Count so many records as the cost of the last publish."""


class Publisher(Protocol):
    """What an intake tells the session that it belongs to."""

    def waits(self, missing: int) -> None:
        """The publisher waits for ``missing`` more subscribers."""

    def end_of_stream(self) -> None:
        """Everything that the client sent is published."""

    def finish(self, receipt: Receipt) -> None:
        """Everything that was published has arrived."""

    def fail(self, error: PipeError) -> None:
        """The stream cannot go on."""


class Destination(Protocol):
    """Where an intake's bytes go: to a `pipe.stream.router.Router`, or to a command."""

    def publish(self, member: Member, chunk: Chunk) -> None:
        """Take a chunk."""

    def deal(self, member: Member, records: Chunk, separator: bytes) -> int:
        """Take whole records, and return how many it had to look at."""

    def end(self, member: Member) -> None:
        """Take the end of the input."""


class Intake:
    """One client's bytes, from the channel to the router.

    Args:
        publisher: the session.
        valve: pauses and resumes the client.
        router: where the bytes go.
        turns: the turns in which waiting chunks are published.
    """

    def __init__(
        self, publisher: Publisher, valve: Valve, router: Destination, turns: Turns
    ) -> None:
        self._publisher = publisher
        self._valve = valve
        self._router = router
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._member: Member | None = None
        self._framer: Framer | None = None
        self._separator = b""
        self._pending = Backlog()
        self._paused = True
        self._missing = 0
        self._eof = False
        self._done = False
        self._queues = False  # for a turn in which to publish
        self._held = Stopwatch()  # runs while a clogged reader, not a missing one, pauses it
        self._waiting = Stopwatch()  # runs while there are too few readers
        self._bucket: Bucket | None = None
        self._rest: asyncio.TimerHandle | None = None  # until the bucket is refilled

    def throttle(self, bucket: Bucket) -> None:
        """Publish no faster than ``bucket`` allows.

        The client's window slows the client: bytes that are not read do not open it.
        """
        self._bucket = bucket

    def bind(self, member: Member, framing: Framing, *, empty: bool) -> None:
        """Publish as ``member`` from the first `resume` on.

        Args:
            member: the member whose source this is.
            framing: whether to cut the stream into records.
            empty: publish nothing and end at once, as ``pub --empty`` does.
        """
        self._member = member
        self._separator = SEPARATORS.get(framing, b"")
        self._framer = Framer(self._separator) if self._separator else None
        if empty:
            self._pending.clear()
            self._eof = True
            self._valve.resume_reading()  # for the keys of a terminal

    async def read_all(self, limit: int) -> bytes:
        """Read the client's whole input, for a command that needs it.

        Raises:
            UsageError: it is more than ``limit`` bytes.
        """
        if not limit:
            self.drain()
            return b""
        collector = Collector(limit)
        self.collect(collector)
        return await collector.wait_collected()

    def collect(self, destination: Destination) -> None:
        """Hand what the client sends to a command instead of the router."""
        self.divert(destination)
        self.resume()

    def divert(self, destination: Destination) -> None:
        """From the first `resume` on, hand what the client sends to something else."""
        self._router = destination
        self._member = Member(Mode.PUBLISH)

    def take_back(self) -> Iterator[Chunk]:
        """Hand back what has arrived so far."""
        while self._pending:
            yield self._pending.popleft()

    def discard(self) -> None:
        """Discard what the client sends from now on."""
        self._done = True
        self._pending.clear()
        self._stop_clocks()
        self._stop_resting()

    def drain(self) -> None:
        """Read and discard whatever the client sends."""
        self.discard()
        self._valve.resume_reading()

    def close(self) -> None:
        """Let go of everything, as the session is over."""
        self.discard()
        self._member = None

    @property
    def at_end(self) -> bool:
        """Whether the client has sent everything."""
        return self._eof

    @property
    def complete_but_waiting(self) -> bool:
        """Whether the client sent its end of file and readers lack bytes from before it."""
        waits = self._paused or bool(self._pending)
        return self._eof and waits and not self._missing and not self._done and bool(self._member)

    @property
    def lacks_readers(self) -> bool:
        """Whether it waits for readers to come."""
        return bool(self._missing)

    @property
    def held_seconds(self) -> float:
        """How long clogged readers have held this publisher back."""
        return self._held.seconds(self._loop.time())

    @property
    def waited_seconds(self) -> float:
        """How long this publisher had too few readers."""
        return self._waiting.seconds(self._loop.time())

    # -- from the channel -------------------------------------------------------------------------

    def feed(self, chunk: Chunk) -> None:
        """Publish a chunk, or keep it until the source may go on."""
        if self._done or (self._eof and self._member):
            return
        if self._paused or self._rest or self._pending:
            self._pending.append(chunk)
        else:
            self._publish(chunk)

    def feed_eof(self) -> None:
        """The client has sent everything."""
        self._eof = True
        if not self._paused and not self._pending:
            self._end()

    def _publish(self, chunk: Chunk) -> None:
        if self._member is None:
            return
        if self._bucket:
            self._spend(self._bucket, chunk.size)
        if self._framer is None:
            self._router.publish(self._member, chunk)
            return
        try:
            records, error = self._framer.feed(chunk), None
        except RecordTooLong as too_long:
            records, error = too_long.records, too_long
        self._valve.charge(self._router.deal(self._member, records, self._separator))
        if error:
            self._publisher.fail(error)

    def _end(self) -> None:
        if self._done or self._member is None:
            return
        self._done = True
        if self._framer and (last := self._framer.close()):
            self._router.publish(self._member, Chunk(last))
        self._publisher.end_of_stream()
        self._router.end(self._member)

    # -- the rate ---------------------------------------------------------------------------------

    def _spend(self, bucket: Bucket, size: int) -> None:
        delay = bucket.take(size, self._loop.time())
        if delay and self._rest is None:
            self._rest = self._loop.call_later(delay, self._end_rest, bucket)
            self._valve.pause_reading()

    def _end_rest(self, bucket: Bucket) -> None:
        delay = bucket.wait(self._loop.time())
        if delay:  # another session of the same user was faster
            self._rest = self._loop.call_later(delay, self._end_rest, bucket)
            return
        self._rest = None
        self._go_on()

    def _stop_resting(self) -> None:
        self._bucket = None
        if self._rest:
            self._rest.cancel()
            self._rest = None

    # -- from the router --------------------------------------------------------------------------

    def pause(self) -> None:
        """Publish nothing more, and stop reading from the client."""
        self._paused = True
        if not self._missing:
            self._held.start(self._loop.time())
        if not self._eof:
            self._valve.pause_reading()

    def resume(self) -> None:
        """Publish what arrived in the meantime, then read on."""
        self._paused = False
        self._stop_clocks()
        self._go_on()

    def _go_on(self) -> None:
        """Read on, unless something waits to be published first."""
        if self._paused or self._done:
            return
        if not self._pending and not self._eof:
            self._valve.resume_reading()
        elif not self._queues:
            self._queues = True
            self._turns.do(self._publish_pending)

    def _publish_pending(self) -> bool:
        """Publish some of what waits, and return whether there is more to publish."""
        deadline = time.monotonic() + STEP_SECONDS
        for _ in range(STEP_CHUNKS):
            if self._paused or self._rest or not self._pending:
                break
            self._publish(self._pending.popleft())
            if time.monotonic() > deadline:
                break
        if self._pending and not (self._paused or self._rest):
            return True
        self._queues = False
        if self._paused or self._done or self._pending:
            return False
        if self._eof:
            self._end()
        elif not self._rest:
            self._valve.resume_reading()
        return False

    def waits(self, missing: int) -> None:
        """Pass it on to the session, which knows what to tell the user."""
        self._missing = missing
        if missing:
            self._waiting.start(self._loop.time())
        else:
            self._waiting.stop(self._loop.time())
        self._publisher.waits(missing)

    def finish(self, receipt: Receipt) -> None:
        """Pass it on."""
        self._publisher.finish(receipt)

    def _stop_clocks(self) -> None:
        now = self._loop.time()
        self._held.stop(now)
        self._waiting.stop(now)
