"""A source and a sink without a network, for tests of the router.

They hold the router to its side of the bargain: one that writes to a clogged sink, resumes a source
twice or goes on with a member that is gone fails the test at that very call.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypedDict, Unpack

from pipe.language.names import Pattern, TopicName
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import Outcome
    from pipe.language.requests import Dispatch, OnSlow
    from pipe.stream.ports import Receipt
    from pipe.stream.router import Router
    from pipe.stream.statistics import TopicStatistics

BOUND = 100
"""Bytes that a fake sink buffers unless told otherwise."""

FULL = "x" * BOUND
"""What clogs it."""

NAME = TopicName("alice", ("build",))
OTHER = TopicName("alice", ("test",))
ALL = Pattern("alice", ("*",))
"""Two topics, and a pattern that takes in both."""


def topics(router: Router) -> list[TopicStatistics]:
    """Every topic, by name."""
    return [found for name in sorted(router.names()) if (found := router.topic(name))]


class NoStore:
    """In place of the accounts, for a service that asks nothing of them."""

    def __getattr__(self, name: str) -> NoStore:
        """Each part of it is another one."""
        return NoStore()


class Wishes(TypedDict, total=False):
    """What a `Member` may ask for."""

    wants: int
    whole: bool
    dispatch: Dispatch
    replay: bool
    keep_alive: bool
    on_slow: OnSlow
    exit_status: int
    keep: int
    linger: float


class FakeSink:
    """A bounded buffer whose other end is read by hand.

    Args:
        router: told of changes.
        bound: bytes from which on it is clogged; it is clogged until half of that is left.
        confirms: whether its client answers the end by itself, once it has read everything.
    """

    member: Member

    def __init__(self, router: Router, *, bound: int = BOUND, confirms: bool = True) -> None:
        self._router = router
        self.bound = bound
        self.confirms = confirms
        self.clogged = False
        self.pending = 0
        self.taken: list[Chunk] = []
        self.client = bytearray()  # what the client has read
        self.finished: tuple[Outcome, int] | None = None
        self.cut_for: Outcome | None = None
        self.gone = False
        self.waited = False
        self.told: list[bool] = []  # every call of waited_for
        self.on_write: Callable[[], object] | None = None  # once, inside the next write
        self._stream = bytearray()  # all that was taken
        self._flushing = False

    # -- what the router calls --------------------------------------------------------------------

    def write(self, chunk: Chunk) -> None:
        """Take a chunk, and clog, break or what `on_write` says from inside."""
        assert not self.clogged, "written to while clogged"
        assert not self.gone, "written to after it left"
        assert not self.over, "written to after its end"
        self.taken.append(chunk)
        self._stream += chunk.data
        self.pending += chunk.size
        if self.pending >= self.bound:
            self.clogged = True
            self._router.update(self.member)
        if self.on_write:
            action, self.on_write = self.on_write, None
            action()

    def flush(self) -> None:
        """Tell the router once nothing is pending."""
        assert not self.gone, "flushed after it left"
        self._flushing = True
        self._notice()

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Remember how it ended; the client learns of it after the last byte."""
        assert not self.gone, "finished after it left"
        assert not self.over, "ended twice"
        self.finished = outcome, exit_status
        self._notice()

    def cut(self, outcome: Outcome) -> None:
        """End now."""
        assert not self.gone, "cut after it left"
        assert not self.over, "ended twice"
        self.cut_for = outcome
        if self.confirms:
            self.vanish()

    def waited_for(self, others: bool) -> None:
        """Remember whether others wait."""
        assert not self.gone, "told to hurry after it left"
        assert others is not self.waited, "told what it knew"
        self.waited = others
        self.told.append(others)

    # -- what the client does ---------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the router has ended it."""
        return self.finished is not None or self.cut_for is not None

    @property
    def text(self) -> str:
        """What the client has read."""
        return self.client.decode()

    @property
    def exit_status(self) -> int | None:
        """What the client exits with."""
        if self.cut_for:
            return self.cut_for.status
        if self.finished:
            outcome, inherited = self.finished
            return outcome.status or inherited
        return None

    def drain(self, size: int | None = None) -> None:
        """Let the client read so many bytes, or all that is pending."""
        start = len(self.client)
        count = self.pending if size is None else min(size, self.pending)
        self.client += self._stream[start : start + count]
        self.pending -= count
        self._notice()

    def confirm(self) -> None:
        """Let the client answer the end of its session."""
        assert self.over
        self.member.confirmed = self.finished is not None
        self.vanish()

    def vanish(self) -> None:
        """Let the client go, whatever is pending."""
        if not self.gone:
            self.gone = True
            self._router.leave(self.member)

    def _notice(self) -> None:
        if self.gone or self.cut_for:
            return
        if self.clogged and self.pending <= self.bound // 2:
            self.clogged = False
            self._router.update(self.member)
        if self._flushing and not self.pending:
            self._flushing = False
            self._router.flushed(self.member)
        if self.finished and not self.pending and self.confirms:
            self.confirm()


class FakeSource:
    """A queue of chunks, and an end of file after them.

    Args:
        router: gets the chunks.
        synchronous: whether it publishes what it has from inside `resume`, as an SSH channel does
            that has packets in its buffer; otherwise `pump` does.
        confirms: whether it leaves by itself once it has its receipt.
    """

    member: Member

    def __init__(self, router: Router, *, synchronous: bool = False, confirms: bool = True) -> None:
        self._router = router
        self._synchronous = synchronous
        self.confirms = confirms
        self.paused = True
        self.queue: deque[Chunk] = deque()
        self.published: list[Chunk] = []
        self.at_end = False  # its end of file comes after the queue
        self.ended = False
        self.gone = False
        self.waiting = 0
        self.waits_heard: list[int] = []
        self.calls: list[str] = []  # pause and resume, in order
        self.receipts: list[Receipt] = []
        self._pumping = False

    # -- what the router calls --------------------------------------------------------------------

    def pause(self) -> None:
        """Publish nothing more."""
        assert not self.gone, "paused after it left"
        assert not self.paused, "paused twice"
        self.paused = True
        self.calls.append("pause")

    def resume(self) -> None:
        """Go on, at once if it is synchronous."""
        assert not self.gone, "resumed after it left"
        assert self.paused, "resumed twice"
        self.paused = False
        self.calls.append("resume")
        if self._synchronous:
            self.pump()

    def waits(self, missing: int) -> None:
        """Remember how many subscribers are missing."""
        assert not self.gone, "told to wait after it left"
        assert missing != self.waiting, "told what it knew"
        self.waiting = missing
        self.waits_heard.append(missing)

    def finish(self, receipt: Receipt) -> None:
        """Take the receipt and go."""
        assert not self.gone, "got a receipt after it left"
        self.receipts.append(receipt)
        if self.confirms:
            self.vanish()

    # -- what the client does ---------------------------------------------------------------------

    def send(self, *pieces: str | bytes) -> None:
        """Put chunks into the queue, and publish what may be published."""
        for piece in pieces:
            self.queue.append(Chunk(piece.encode() if isinstance(piece, str) else piece))
        self.pump()

    def end(self) -> None:
        """Put the end of file after the queue."""
        self.at_end = True
        self.pump()

    def vanish(self) -> None:
        """Let the client go."""
        if not self.gone:
            self.gone = True
            self._router.leave(self.member)

    def pump(self) -> None:
        """Publish until paused."""
        if self._pumping:
            return
        self._pumping = True
        while self.queue and not self.paused and not self.gone:
            chunk = self.queue.popleft()
            self.published.append(chunk)
            self._publish(chunk)
        self._pumping = False
        if self.at_end and not (self.queue or self.paused or self.ended or self.gone):
            self.ended = True
            self._end()

    def _publish(self, chunk: Chunk) -> None:
        self._router.publish(self.member, chunk)

    def _end(self) -> None:
        self._router.end(self.member)


def publisher(
    router: Router, name: TopicName, *, synchronous: bool = False, **wishes: Unpack[Wishes]
) -> FakeSource:
    """Join a topic as ``pub`` does: waiting for one subscriber unless told otherwise."""
    source = FakeSource(router, synchronous=synchronous)
    wishes.setdefault("wants", 1)
    source.member = Member(Mode.PUBLISH, source=source, **wishes)
    router.join(source.member, name)
    return source


def subscriber(
    router: Router,
    name: TopicName,
    *,
    bound: int = BOUND,
    confirms: bool = True,
    **wishes: Unpack[Wishes],
) -> FakeSink:
    """Join a topic as ``sub`` does."""
    sink = FakeSink(router, bound=bound, confirms=confirms)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink, **wishes)
    router.join(sink.member, name)
    return sink


def pipe(
    router: Router, name: TopicName, *, bound: int = BOUND, **wishes: Unpack[Wishes]
) -> tuple[FakeSource, FakeSink]:
    """Join a topic as ``pipe`` does."""
    source, sink = FakeSource(router), FakeSink(router, bound=bound)
    source.member = sink.member = Member(Mode.PIPE, source=source, sink=sink, **wishes)
    router.join(sink.member, name)
    return source, sink


def pattern_reader(router: Router, pattern: Pattern = ALL, *, bound: int = BOUND) -> FakeSink:
    """Join every topic of a pattern."""
    sink = FakeSink(router, bound=bound)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, pattern, lambda _: True)
    return sink
