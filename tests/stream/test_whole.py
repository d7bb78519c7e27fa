"""Readers that come in mid-stream, and publishers whose stream is to be had whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import Outcome
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode, Receipt
from pipe.stream.topics import Begun, Member
from tests.fakes import ALL, NAME, FakeSource, pattern_reader, pipe, publisher, subscriber

if TYPE_CHECKING:
    from pipe.stream.router import Router


def test_nothing_has_begun(router: Router) -> None:
    """Nor on a topic that does not exist, nor where a publisher has sent nothing yet."""
    assert router.begun(NAME) == Begun()
    publisher(router, NAME, whole=True)
    subscriber(router, NAME)
    assert router.begun(NAME) == Begun()


def test_how_far_streams_are(router: Router) -> None:
    """Of those who publish now, however many readers there were; pipes are counted apart."""
    sources = [publisher(router, NAME) for _ in range(2)]
    talker, _ = pipe(router, NAME)
    sources[0].send("four")
    sources[1].send("seven..")
    talker.send("x")
    assert router.begun(NAME) == Begun(11, 1)
    sources[0].end()
    talker.end()
    assert router.begun(NAME) == Begun(7, 0)
    sources[1].vanish()
    assert router.begun(NAME) == Begun()


def test_what_nobody_read_went_by_too(router: Router) -> None:
    """A publisher that does not wait has begun, though nobody was there."""
    publisher(router, NAME, wants=0).send("gone")
    assert router.begun(NAME).stream_bytes == 4


def test_whole_stream_that_has_begun_is_shut(router: Router) -> None:
    """From its first byte to its end, and not because of others that have begun."""
    other = publisher(router, NAME)
    whole = publisher(router, NAME, whole=True)
    subscriber(router, NAME)
    other.send("x")
    assert not router.begun(NAME).shut
    whole.send("y")
    assert router.begun(NAME) == Begun(2, 0, shut=True)
    whole.end()
    assert router.begun(NAME) == Begun(1, 0)


def test_reader_on_a_pattern_begins_when_it_is_over(router: Router) -> None:
    """One that matches a whole stream in mid-stream gets none of it, and all of the next."""
    whole = publisher(router, NAME, whole=True)
    stays = subscriber(router, NAME, keep_alive=True)
    whole.send("one")
    late = pattern_reader(router)
    whole.send("two")
    whole.end()
    stays.drain()
    assert whole.receipts == [Receipt(6, 1, 0)]
    following = publisher(router, NAME, whole=True)
    following.send("three")
    late.drain()
    assert late.text == "three"


def test_reader_on_a_pattern_begins_when_it_breaks_off(router: Router) -> None:
    """It gets the next stream, and nothing of the one that broke off."""
    whole = publisher(router, NAME, whole=True)
    subscriber(router, NAME, keep_alive=True)
    whole.send("one")
    late = pattern_reader(router)
    whole.vanish()
    publisher(router, NAME).send("two")
    late.drain()
    assert late.text == "two"


def test_right_that_comes_in_mid_stream(router: Router) -> None:
    """A reader on a pattern that may read the topic from now on begins when it is over, too."""
    allowed = False
    whole = publisher(router, NAME, whole=True)
    stays = subscriber(router, NAME, keep_alive=True)
    late = pattern_reader(router)
    router.leave(late.member)
    router.join_pattern(late.member, ALL, lambda _: allowed)
    whole.send("one")
    allowed = True
    router.review(NAME)
    whole.send("two")
    assert not late.taken
    whole.end()
    stays.drain()
    publisher(router, NAME).send("three")
    late.drain()
    assert late.text == "three"


def test_reader_on_a_pattern_that_was_there_has_it_whole(router: Router) -> None:
    """From the first byte, as everybody who was there before it."""
    early = pattern_reader(router)
    whole = publisher(router, NAME, whole=True)
    whole.send("one", "two")
    early.drain()
    assert early.text == "onetwo"


def test_publisher_may_leave_when_it_hears_that_it_waits(router: Router) -> None:
    """From inside that call, as one does that is to break when its last reader leaves."""

    class Brittle(FakeSource):
        def waits(self, missing: int) -> None:
            super().waits(missing)
            if missing and self.published:
                self.vanish()

    source = Brittle(router)
    source.member = Member(Mode.PUBLISH, source=source, wants=1, whole=True)
    router.join(source.member, NAME)
    other = publisher(router, NAME)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    source.send("one")
    sinks[0].vanish()
    assert source.receipts == []
    assert source.member in router.members(NAME)
    sinks[1].vanish()
    assert router.members(NAME) == (other.member,)
    reader = subscriber(router, NAME)
    other.send("two")
    other.end()
    reader.drain()
    assert (reader.text, reader.finished) == ("two", (Outcome.DONE, 0))
    assert NAME not in router


def test_chunk_of_nobody(router: Router) -> None:
    """What comes after the end has no part in how far a stream is."""
    whole = publisher(router, NAME, whole=True)
    subscriber(router, NAME, keep_alive=True)
    whole.send("one")
    router.end(whole.member)
    router.publish(whole.member, Chunk(b"late"))
    assert router.begun(NAME) == Begun()
