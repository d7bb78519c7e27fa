"""A reader on a pattern whose topics are at home in several workers: all of them feed its port.

It joins in each worker, as a reader of its own there; what comes from all of them goes through one
port, in the order in which it comes.  Rules:

- What a worker has had written is known exactly, as the port keeps the order: so each publisher
  knows what arrived, whatever else the reader reads.
- While the port is clogged it is so for all workers, and any of them may wait for it (law 4).
- A worker that comes later is joined when it comes.  One that is lost takes its streams along, as
  a publisher does whose stream breaks; the reader is told, and goes on with the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from pipe.elsewhere import Gone
from pipe.errors import Outcome, PipeError
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from pipe.elsewhere import Elsewhere, Errand, Facts, Way
    from pipe.session.front import Listener, Port
    from pipe.stream.chunks import Chunk

JOIN_SECONDS = 1.0
"""How long a reader waits for all workers before it reads what comes from those that have it."""

AGAIN_SECONDS = 1.0
"""When to join again a worker that could not be reached, and is there."""

_LEFT = Gone(Outcome.LEFT, "", confirmed=False, lost=False, complete=False)


class Reader(Protocol):
    """What it needs of its session."""

    def waited_for(self, others: bool) -> None:
        """Run the clock of law 4 while others wait."""


class Wide:
    """Such a reader, while its session lasts.

    Args:
        session: whose it is.
        port: the client's; bound by this.
        own: its member in this worker, which gets another sink.
        router: of this worker.
        elsewhere: the other workers.

    Attributes:
        whole: on no topic; it counts what has come from all workers.
    """

    def __init__(
        self,
        session: Reader,
        port: Port,
        own: Member,
        router: Listener,
        elsewhere: Elsewhere,
    ) -> None:
        self.port = port
        self.whole = Member(Mode.SUBSCRIBE, sink=port)
        self.whole.topics = own.topics
        self._session = session
        self._router = router
        self._own = own
        self._elsewhere = elsewhere
        self._loop = asyncio.get_running_loop()
        self._feeds: dict[Hashable, _Far] = {}
        self._order: deque[tuple[_Feed, int]] = deque()  # what waits in the port, and whose it is
        self._written = 0
        self._flushing = False
        self._waiting: dict[_Feed, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._left = False
        own.sink = self._here = _Here(self)

    async def join(self, errand: Errand, tell: Callable[[str], None]) -> None:
        """Join in all other workers; return when that is done, or after `JOIN_SECONDS`.

        Args:
            errand: as for a session that runs there as a whole.
            tell: tells the user a line, wanted or not.
        """
        request: Any = errand.request
        self._errand = replace(errand, request=replace(request, progress=False), part=True)
        self._tell = tell
        self.port.bind(self.whole, self)
        self._unfollow = self._elsewhere.follow(self._look)
        self._look()
        joins = [feed.joining for feed in self._feeds.values()]
        if joins:
            await asyncio.wait(joins, timeout=JOIN_SECONDS)

    def leave(self) -> None:
        """Leave everywhere else; calling this again does nothing."""
        if self._left or not hasattr(self, "_errand"):
            return
        self._left = True
        self._unfollow()
        if self._again:
            self._again.cancel()
        for task in list(self._tasks):
            task.cancel()
        self.settle()
        for feed in list(self._feeds.values()):
            feed.leave()
        self._feeds.clear()

    # -- the workers ------------------------------------------------------------------------------

    def _look(self) -> None:
        """Join those that have come, and forget those that are gone."""
        self._again = None
        if self._left:
            return
        there = self._elsewhere.workers
        for worker in [one for one, feed in self._feeds.items() if feed.over and one not in there]:
            del self._feeds[worker]
        for worker in there:
            if worker not in self._feeds:
                feed = self._feeds[worker] = _Far(self, worker)
                task = self._loop.create_task(self._open(feed))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _open(self, feed: _Far) -> None:
        try:
            visit = await self._elsewhere.reach(feed.worker)
        except PipeError:
            feed.end()
            self.forget(feed)
            return
        try:
            feed.way = visit.open(self._errand, feed)
        finally:
            visit.settle()

    def forget(self, feed: _Far) -> None:
        """A worker is not reached any more: try again later, unless it is gone."""
        if self._feeds.get(feed.worker) is feed:
            del self._feeds[feed.worker]
        if self._again is None and not self._left:
            self._again = self._loop.call_later(AGAIN_SECONDS, self._look)

    def lose(self, feed: _Far) -> None:
        """A worker is lost, and what was on its way from there with it."""
        self._tell(f"worker {feed.worker} is gone: what was published there broke off")
        self.forget(feed)

    @property
    def is_told(self) -> bool:
        """Whether all of them have told how their streams move, as this server stops."""
        return all(feed.is_told for feed in self._feeds.values() if not feed.over)

    @property
    def moved_bytes(self) -> int | None:
        """How many bytes these streams have moved; None if they only wait."""
        counts = [feed.moved_bytes for feed in self._feeds.values() if not feed.over]
        moving = [count for count in counts if count is not None]
        return sum(moving) if moving else None

    # -- the port ---------------------------------------------------------------------------------

    def write(self, feed: _Feed, chunk: Chunk) -> None:
        """Give the port a chunk."""
        self._order.append((feed, chunk.size))
        self.whole.accepted_bytes += chunk.size
        self.whole.accepted_chunks += 1
        self.port.write(chunk)
        if not self._flushing:
            self._flushing = True
            self.port.flush()
        self.settle()

    def settle(self) -> None:
        """Find out whose bytes are written now, and tell."""
        fresh = self.whole.written_bytes - self._written
        if not fresh:
            return
        self._written += fresh
        told: dict[_Feed, None] = {}
        while fresh:
            feed, size = self._order[0]
            part = min(size, fresh)
            fresh -= part
            feed.unwritten -= part
            told[feed] = None
            if part == size:
                self._order.popleft()
            else:
                self._order[0] = feed, size - part
        for feed in told:
            feed.took()

    def update(self, reader: Member) -> None:  # noqa: ARG002
        """The port is clogged, or no longer is."""
        self.settle()
        self._router.update(self._own)
        for feed in list(self._feeds.values()):
            feed.took()

    def flushed(self, reader: Member) -> None:  # noqa: ARG002
        """The port has written everything."""
        self._flushing = False
        self.settle()

    def flushed_here(self) -> None:
        """What this worker had is written."""
        self._router.flushed(self._own)

    def waits(self, feed: _Feed, others: bool) -> None:
        """Somewhere others start or stop waiting for it."""
        if others:
            self._waiting[feed] = None
        else:
            self._waiting.pop(feed, None)
        self._session.waited_for(bool(self._waiting))


class _Feed:
    """What one worker has given to the port: the half that router and link have in common."""

    def __init__(self, wide: Wide) -> None:
        self._wide = wide
        self.unwritten = 0

    @property
    def clogged(self) -> bool:
        """Whether the port takes no more for now."""
        return self._wide.port.clogged

    @property
    def pending(self) -> int:
        """Bytes given to the port and not yet written."""
        self._wide.settle()
        return self.unwritten

    def write(self, chunk: Chunk) -> None:
        """Take a chunk."""
        self.unwritten += chunk.size
        self._wide.write(self, chunk)

    def waited_for(self, others: bool) -> None:
        """Others start or stop waiting for this reader."""
        self._wide.waits(self, others)

    def took(self) -> None:
        """Some of it is written."""
        raise NotImplementedError


class _Here(_Feed):
    """This worker: the router's sink."""

    def __init__(self, wide: Wide) -> None:
        super().__init__(wide)
        self._flushing = False

    def flush(self) -> None:
        """Say when nothing is pending."""
        self._flushing = True
        self._wide.settle()
        self.took()

    def took(self) -> None:
        """Say it if it is so."""
        if self._flushing and not self.unwritten:
            self._flushing = False
            self._wide.flushed_here()

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """End in order."""
        self._wide.port.finish(outcome, exit_status)

    def cut(self, outcome: Outcome) -> None:
        """End now."""
        self._wide.port.cut(outcome)


class _Far(_Feed):
    """Another worker: a `pipe.elsewhere.Client` of what runs there."""

    way: Way

    def __init__(self, wide: Wide, worker: Hashable) -> None:
        super().__init__(wide)
        self.worker = worker
        self.joining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = False
        self.is_told = False
        self.moved_bytes: int | None = None

    def leave(self) -> None:
        """The reader is gone."""
        if not self.over and hasattr(self, "way"):
            self.over = True
            self.way.leave(_LEFT)
        self.end()

    def end(self) -> None:
        """Nothing comes from there any more."""
        self.over = True
        self._wide.waits(self, others=False)
        if not self.joining.done():
            self.joining.set_result(None)

    def took(self) -> None:
        """Tell the worker."""
        if not self.over and hasattr(self, "way"):
            self.way.took()

    # -- what comes from there --------------------------------------------------------------------

    def joined(self) -> None:
        """It reads there."""
        if not self.joining.done():
            self.joining.set_result(None)

    def pause(self) -> None:
        """A reader sends nothing."""

    def resume(self) -> None:
        """A reader sends nothing."""

    def tell(self, text: str) -> None:
        """What concerns the reader is told here."""

    def note(self, facts: Facts) -> None:
        """Of several topics nothing is told."""

    def draw(self, line: str, *, last: bool) -> None:
        """It is drawn here."""

    def answer(self, text: str) -> None:
        """It is no command that answers."""

    def follow(self) -> None:
        """It is no command that answers."""

    def stream_moved(self, count: int | None) -> None:
        """Keep it."""
        self.is_told, self.moved_bytes = True, count

    def finish(self, outcome: Outcome, exit_status: int) -> None:  # noqa: ARG002
        """That worker has nothing more for it, as it stops or this user may not read there."""
        self.leave()

    def cut(self, outcome: Outcome, text: str) -> None:  # noqa: ARG002
        """Likewise; if the user is expelled, this worker notices by itself.

        A reader that wants to be cut off when it is slow is slow, wherever that is noticed.
        """
        self.leave()
        if outcome is Outcome.SLOW:
            self._wide.port.cut(outcome)

    def lose(self, reason: str) -> None:  # noqa: ARG002
        """The worker is gone."""
        if not self.over:
            self.end()
            self._wide.lose(self)
