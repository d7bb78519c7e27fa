"""What every sink and every source must do, whatever is behind it: one suite for them all.

A test class derives from `SinkConformance` or `SourceConformance` and provides one fixture,
``end``, that may be async: a `SinkEnd` or `SourceEnd`, which is the member under test together with
its client.  The suite takes the place of the rest of the topic: it joins fakes to the same router,
and lets the real router make the calls.

    class TestMySink(SinkConformance):
        @pytest.fixture
        async def end(self) -> AsyncIterator[SinkEnd]:
            ...
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from random import Random
from typing import TYPE_CHECKING

import pytest

from pipe.errors import Outcome
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode, Receipt
from pipe.stream.router import Router
from tests.e2e.processes import DEADLINE
from tests.fakes import publisher, subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.names import TopicName
    from pipe.stream.topics import Member

MAX_CHUNK_BYTES = 32 * 1024
"""What fits into one SSH data packet of a common client."""

MAX_IN_FLIGHT_BYTES = 64 * 1024 * 1024
"""What a connection may take from a sink whose client does not read: its window, the kernel."""


class RecordingRouter(Router):
    """A router that also remembers what the members told it."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[tuple[Member, bool]] = []
        self.flushes: list[tuple[Member, int]] = []  # with what was pending
        self.published: list[tuple[Member, bytes]] = []
        self.ends: list[Member] = []
        self.leaves: list[Member] = []
        self.on_update: Callable[[], None] = lambda: None

    def update(self, reader: Member) -> None:
        """Remember what it is now."""
        if reader.sink:
            self.updates.append((reader, reader.sink.clogged))
        self.on_update()
        super().update(reader)

    def flushed(self, reader: Member) -> None:
        """Remember it, with what is pending all the same."""
        self.flushes.append((reader, reader.sink.pending if reader.sink else 0))
        super().flushed(reader)

    def publish(self, member: Member, chunk: Chunk) -> None:
        """Remember the bytes."""
        self.published.append((member, bytes(chunk.data)))
        super().publish(member, chunk)

    def end(self, member: Member) -> None:
        """Remember it."""
        self.ends.append(member)
        super().end(member)

    def leave(self, member: Member) -> None:
        """Remember the first one; the others mean nothing."""
        if member.joined:
            self.leaves.append(member)
        super().leave(member)


class MemberEnd(ABC):
    """A member under test and its client.

    Attributes:
        router: that the member has joined.
        member: on a topic by its name, alone.
    """

    router: RecordingRouter
    member: Member

    @property
    def name(self) -> TopicName:
        """The member's topic."""
        assert self.member.topic
        return self.member.topic.name

    @abstractmethod
    async def vanish(self) -> None:
        """Take the client away without a word, as a broken network does."""

    @abstractmethod
    async def exit_status(self) -> int:
        """Wait until the client has ended, and return what it exits with."""

    @abstractmethod
    async def settle(self) -> None:
        """Wait until all that is on its way has arrived, both ways: a round trip, for a network."""

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that must come."""
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - the loop goes round, no time is waited for
                await asyncio.sleep(0)


class SinkEnd(MemberEnd):
    """A subscriber that blocks and does not stay, and its client, which reads only when asked to.

    Attributes:
        bound: bytes from which on the sink is clogged.
    """

    bound: int

    @abstractmethod
    async def read(self, size: int) -> bytes:
        """Let the client read so many bytes, no more and no less."""

    @abstractmethod
    async def read_to_end(self) -> bytes:
        """Let the client read until the end of file."""

    def written(self) -> int | None:
        """Bytes written to the connection so far, where that can be known."""
        return None


class SourceEnd(MemberEnd):
    """A publisher that waits for one subscriber, and its client."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Let the client write.  Does not wait until it is read."""

    @abstractmethod
    async def send_end(self) -> None:
        """Let the client's stream end, after all that it wrote."""


class Feed:
    """A publisher beside the sink under test, and what it has sent."""

    def __init__(self, end: SinkEnd, exit_status: int = 0) -> None:
        assert end.member.sink
        self._end = end
        self._random = Random(0)
        self.sink = end.member.sink
        self.chunk_bytes = min(MAX_CHUNK_BYTES, end.bound // 8 + 1)
        self.sent = bytearray()
        self.source = publisher(end.router, end.name, wants=0, exit_status=exit_status)

    def send(self, size: int) -> None:
        """Publish one chunk, and see that the sink takes it and counts it."""
        before = self.sink.pending
        data = self._random.randbytes(size)
        self.sent += data
        self.source.send(data)
        assert not self.source.queue, "the router has paused the publisher"
        assert 0 <= self.sink.pending <= before + size
        assert self.sink.pending <= self._end.bound + size, "holds more than its bound and a chunk"
        self.check()

    def check(self) -> None:
        """See that what is pending is what has not been written."""
        written = self._end.written()
        if written is not None:
            assert self.sink.pending == len(self.sent) - written

    async def fill(self) -> None:
        """Publish until the sink is clogged."""
        start = len(self.sent)
        while not self.sink.clogged:
            assert len(self.sent) - start < MAX_IN_FLIGHT_BYTES + self._end.bound, "never clogs"
            self.send(self.chunk_bytes)
            await self._end.settle()

    def end(self) -> None:
        """End the stream, whether the sink is clogged or not."""
        self._end.router.end(self.source.member)


class SinkConformance:
    """What `pipe.stream.ports.Sink` promises."""

    async def test_starts_free(self, end: SinkEnd) -> None:
        """A sink that nobody has written to is not clogged, and says nothing."""
        feed = Feed(end)
        await end.settle()
        assert (feed.sink.clogged, feed.sink.pending) == (False, 0)
        assert not any(clogged for _, clogged in end.router.updates)

    async def test_bytes_arrive_as_they_were(self, end: SinkEnd) -> None:
        """Chunks of any size arrive, in order, with nothing in between."""
        feed = Feed(end)
        for size in (1, 2, feed.chunk_bytes, 1, feed.chunk_bytes):
            feed.send(size)
        assert await end.read(len(feed.sent)) == feed.sent
        await end.until(lambda: feed.sink.pending == 0)

    async def test_takes_views(self, end: SinkEnd) -> None:
        """A chunk's data may be a memoryview of a larger buffer."""
        feed = Feed(end)
        end.router.publish(feed.source.member, Chunk(memoryview(b"(view)")[1:-1]))
        assert await end.read(4) == b"view"

    async def test_clogs_within_its_bound(self, end: SinkEnd) -> None:
        """With a client that does not read it clogs, before it holds its bound and a chunk more."""
        feed = Feed(end)
        await feed.fill()
        assert feed.source.paused

    async def test_tells_each_change(self, end: SinkEnd) -> None:
        """Clogged and free are told when they change, and only then."""
        feed = Feed(end)
        end.router.updates.clear()
        read = 0
        for _ in range(3):
            await feed.fill()
            assert await end.read(len(feed.sent) - read) == feed.sent[read:]
            read = len(feed.sent)
            await end.until(lambda: not feed.sink.clogged)
        assert end.router.updates == [(end.member, True), (end.member, False)] * 3
        assert not feed.source.paused

    async def test_counts_a_chunk_before_it_calls_back(self, end: SinkEnd) -> None:
        """When the router is told from inside a write, that write is counted already."""
        feed = Feed(end)
        end.router.on_update = feed.check
        await feed.fill()

    async def test_pending_goes_down_to_nothing(self, end: SinkEnd) -> None:
        """What the client has read was written before, and nothing is left when it has read all."""
        feed = Feed(end)
        await feed.fill()
        read = 0
        while read < len(feed.sent):
            size = min(len(feed.sent) - read, len(feed.sent) // 5 + 1)
            assert await end.read(size) == feed.sent[read : read + size]
            read += size
            assert feed.sink.pending <= len(feed.sent) - read
            feed.check()
        await end.until(lambda: feed.sink.pending == 0)
        delivered = end.router.statistics().delivered_bytes[Mode.SUBSCRIBE]
        assert delivered == len(feed.sent)

    async def test_flush_with_nothing_pending(self, end: SinkEnd) -> None:
        """Flushing an empty sink is answered too, once."""
        feed = Feed(end)
        feed.sink.flush()
        await end.until(lambda: end.router.flushes)
        await end.settle()
        assert end.router.flushes == [(end.member, 0)]

    async def test_flush_is_answered_when_nothing_is_pending(self, end: SinkEnd) -> None:
        """The answer comes when all is written, not before, and once."""
        feed = Feed(end)
        await feed.fill()
        feed.sink.flush()
        await end.settle()
        if feed.sink.pending:
            assert not end.router.flushes
        await end.read(len(feed.sent))
        await end.until(lambda: end.router.flushes)
        await end.settle()
        assert end.router.flushes == [(end.member, 0)]

    async def test_tells_nothing_unasked(self, end: SinkEnd) -> None:
        """Without `flush` there is no answer to it."""
        feed = Feed(end)
        feed.send(1)
        await end.read(1)
        await end.settle()
        assert end.router.flushes == []

    async def test_finish_delivers_every_byte(self, end: SinkEnd) -> None:
        """The end comes after the last byte, and the reader leaves when its client has it all."""
        feed = Feed(end)
        await feed.fill()
        feed.end()
        await end.settle()
        assert end.member.joined
        assert not feed.source.receipts
        assert await end.read_to_end() == feed.sent
        assert await end.exit_status() == 0
        await end.until(lambda: feed.source.receipts)
        assert feed.source.receipts == [Receipt(len(feed.sent), 1, 0)]
        assert end.router.leaves.count(end.member) == 1
        assert end.router.statistics().delivered_bytes[Mode.SUBSCRIBE] == len(feed.sent)

    async def test_finish_with_nothing_pending(self, end: SinkEnd) -> None:
        """An empty stream ends as well as a long one."""
        feed = Feed(end)
        feed.end()
        assert await end.read_to_end() == b""
        assert await end.exit_status() == 0
        await end.until(lambda: feed.source.receipts)
        assert feed.source.receipts == [Receipt(0, 1, 0)]

    async def test_exit_status_of_the_publisher(self, end: SinkEnd) -> None:
        """The client exits with what its publisher gave."""
        feed = Feed(end, exit_status=7)
        feed.end()
        await end.read_to_end()
        assert await end.exit_status() == 7

    async def test_exit_status_of_a_broken_stream(self, end: SinkEnd) -> None:
        """The client gets all that was sent, and learns that there should have been more."""
        feed = Feed(end)
        feed.send(3)
        feed.source.vanish()
        assert await end.read_to_end() == feed.sent
        assert await end.exit_status() == Outcome.BROKEN.status

    async def test_cut_ends_at_once(self, end: SinkEnd) -> None:
        """A sink that is cut leaves with its client still not reading; the rest never arrives."""
        feed = Feed(end)
        await feed.fill()
        pending = feed.sink.pending
        feed.sink.cut(Outcome.STALLED)
        await end.until(lambda: not end.member.joined)
        assert end.router.leaves == [end.member]
        delivered = end.router.statistics().delivered_bytes[Mode.SUBSCRIBE]
        assert delivered == len(feed.sent) - pending
        assert not feed.source.paused
        assert feed.source.waiting == 0

    async def test_cut_tells_the_client_why(self, end: SinkEnd) -> None:
        """The client of a sink that is cut gets the status that says so."""
        feed = Feed(end)
        feed.sink.cut(Outcome.STALLED)
        assert await end.exit_status() == Outcome.STALLED.status

    async def test_client_that_vanishes(self, end: SinkEnd) -> None:
        """What was pending then does not count as delivered, and its publisher is free again."""
        feed = Feed(end)
        await feed.fill()
        pending = feed.sink.pending
        await end.vanish()
        await end.until(lambda: not end.member.joined)
        assert end.router.leaves == [end.member]
        delivered = end.router.statistics().delivered_bytes[Mode.SUBSCRIBE]
        assert delivered == len(feed.sent) - pending
        assert not feed.source.paused

    async def test_client_that_vanishes_at_the_end(self, end: SinkEnd) -> None:
        """A reader that goes before it has confirmed has left early, and its publisher is told."""
        feed = Feed(end)
        await feed.fill()
        feed.end()
        await end.vanish()
        await end.until(lambda: feed.source.receipts)
        assert feed.source.receipts == [Receipt(len(feed.sent), 1, 1)]

    async def test_hurry_changes_nothing(self, end: SinkEnd) -> None:
        """To be waited for, and no longer, leaves a sink as it is until time has passed."""
        feed = Feed(end)
        await feed.fill()
        feed.sink.waited_for(True)
        feed.sink.waited_for(False)
        await end.settle()
        assert feed.sink.clogged
        assert await end.read(len(feed.sent)) == feed.sent


class SourceConformance:
    """What `pipe.stream.ports.Source` promises."""

    async def test_starts_paused(self, end: SourceEnd) -> None:
        """Nothing is published before there is somebody to read it, and nothing of it is lost."""
        await end.send(b"early ")
        await end.settle()
        assert end.router.published == []
        sink = subscriber(end.router, end.name)
        await end.send(b"late")
        await end.until(lambda: sink.pending == len(b"early late"))
        sink.drain()
        assert sink.text == "early late"

    @pytest.mark.parametrize("bound", [1, 1000, 100_000])
    async def test_stream_through_a_slow_sink(self, end: SourceEnd, bound: int) -> None:
        """Paused and resumed all the time, it publishes every byte in order.

        The sink fails the test if it is written to between `pause` and `resume`.
        """
        sink = subscriber(end.router, end.name, bound=bound)
        data = Random(1).randbytes(300_000)
        await end.send(data)
        await end.send_end()
        while not sink.finished:
            await end.until(lambda: sink.pending or sink.finished)
            sink.drain()
        sink.drain()
        assert sink.client == data
        assert await end.exit_status() == 0

    async def test_pause_holds_at_once(self, end: SourceEnd) -> None:
        """After the chunk that clogs the sink nothing comes, however much has been sent."""
        sink = subscriber(end.router, end.name, bound=1)
        for _ in range(5):
            await end.send(b"x")
        await end.until(lambda: sink.taken)
        await end.settle()
        assert len(sink.taken) == 1
        assert len(end.router.published) == 1

    async def test_pause_from_outside(self, end: SourceEnd) -> None:
        """A pause between two chunks holds too."""
        sink = subscriber(end.router, end.name)
        await end.send(b"1")
        await end.until(lambda: sink.pending)
        sink.clogged = True
        end.router.update(sink.member)
        await end.send(b"2")
        await end.settle()
        assert len(end.router.published) == 1
        sink.drain()
        await end.until(lambda: sink.pending)
        sink.drain()
        assert sink.text == "12"

    async def test_end_comes_after_the_last_byte(self, end: SourceEnd) -> None:
        """An end of file that comes while it is paused waits behind the bytes."""
        await end.send(b"bytes")
        await end.send_end()
        await end.settle()
        sink = subscriber(end.router, end.name)
        await end.until(lambda: sink.finished)
        sink.drain()
        assert (sink.text, sink.finished) == ("bytes", (Outcome.DONE, 0))
        await end.settle()
        assert end.router.ends == [end.member]

    async def test_empty_stream_waits_too(self, end: SourceEnd) -> None:
        """A stream without a byte ends when there is somebody to end it for."""
        await end.send_end()
        await end.settle()
        assert end.member.joined
        sink = subscriber(end.router, end.name)
        await end.until(lambda: sink.finished)
        assert await end.exit_status() == 0

    async def test_receipt_ends_it(self, end: SourceEnd) -> None:
        """It stays until its readers have everything; then it leaves, and its client is told."""
        sink = subscriber(end.router, end.name, confirms=False)
        await end.send(b"bytes")
        await end.send_end()
        await end.until(lambda: sink.finished)
        sink.drain()
        await end.settle()
        assert end.member.joined
        sink.confirm()
        assert await end.exit_status() == 0
        await end.until(lambda: not end.member.joined)
        assert end.router.leaves == [sink.member, end.member]

    async def test_waits_again_without_readers(self, end: SourceEnd) -> None:
        """When its last reader leaves it holds what comes until there is another."""
        first = subscriber(end.router, end.name)
        await end.send(b"1")
        await end.until(lambda: first.pending)
        first.vanish()
        await end.send(b"2")
        await end.settle()
        assert end.member.joined
        second = subscriber(end.router, end.name)
        await end.until(lambda: second.pending)
        second.drain()
        assert second.text == "2"

    async def test_client_that_vanishes(self, end: SourceEnd) -> None:
        """Gone without an end of file is no end of file."""
        sink = subscriber(end.router, end.name)
        await end.send(b"half")
        await end.until(lambda: sink.pending)
        await end.vanish()
        await end.until(lambda: sink.finished)
        assert sink.finished == (Outcome.BROKEN, 0)
        assert end.router.ends == []

    async def test_client_that_vanishes_while_it_waits(self, end: SourceEnd) -> None:
        """A publisher whose client is gone waits no longer."""
        await end.send(b"never read")
        await end.vanish()
        await end.until(lambda: not end.member.joined)
        assert end.router.published == []
        assert end.router.leaves == [end.member]
