"""An intake with a rate: nothing is published too early, and nothing is lost or out of order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from pipe.language.names import TopicName
from pipe.language.requests import Framing
from pipe.limits.turns import Turns
from pipe.session.intake import Intake
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.fakes import FakeSink, subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

NEWS = TopicName("alice", ("news",))


class FakeBucket:
    """A bucket that a test empties and fills."""

    def __init__(self) -> None:
        self.taken = 0
        self.delay = 0.0
        self.waits: list[float] = []  # answers to come, before 0

    def take(self, size: int, _now: float) -> float:
        """Count."""
        self.taken += size
        return self.delay

    def wait(self, _now: float) -> float:
        """The next of the answers."""
        return self.waits.pop(0) if self.waits else 0.0


class FakePort:
    """The valve of a channel."""

    def __init__(self) -> None:
        self._reading = False

    @property
    def closed(self) -> bool:
        """Whether nothing is to be read."""
        return not self._reading

    def is_open(self) -> bool:
        """The opposite."""
        return self._reading

    def pause_reading(self) -> None:
        """Close it."""
        self._reading = False

    def charge(self, records: int) -> None:
        """Nobody counts."""

    def resume_reading(self) -> None:
        """Open it."""
        self._reading = True


class Scene:
    """A publisher with a rate, and its reader."""

    def __init__(self, framing: Framing = Framing.NONE, bound: int = 1000) -> None:
        self.router = Router()
        self.reader: FakeSink = subscriber(self.router, NEWS, bound=bound)
        self.port, self.bucket = FakePort(), FakeBucket()
        self.ended = False
        session = SimpleNamespace(
            waits=lambda _missing: None,
            end_of_stream=self._end,
            finish=lambda _receipt: None,
            fail=lambda _error: None,
        )
        self.intake = Intake(cast("Any", session), cast("Any", self.port), self.router, Turns())
        member = Member(Mode.PUBLISH, source=self.intake, wants=1)
        self.intake.bind(member, framing, empty=False)
        self.intake.throttle(cast("Any", self.bucket))
        self.router.join(member, NEWS)
        self.member = member

    def _end(self) -> None:
        self.ended = True

    def feed(self, *pieces: bytes) -> None:
        """Let the client send."""
        for piece in pieces:
            self.intake.feed(Chunk(piece))

    @property
    def text(self) -> bytes:
        """What was published."""
        self.reader.drain()
        return bytes(self.reader.client)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the timers run."""
        while not condition():  # noqa: ASYNC110 - timers tell nobody
            await asyncio.sleep(0.001)


async def test_rest() -> None:
    """What comes while it rests waits, with the window closed, and is published after it."""
    scene = Scene()
    scene.feed(b"a")
    assert scene.port.is_open()
    scene.bucket.delay = 0.001
    scene.feed(b"b", b"c", b"d")
    assert scene.text == b"ab"
    assert scene.port.closed
    scene.bucket.delay = 0.0
    await scene.until(scene.port.is_open)
    assert scene.text == b"abcd"
    assert scene.bucket.taken == 4


async def test_bucket_that_others_emptied() -> None:
    """It rests again for as long as it takes."""
    scene = Scene()
    scene.bucket.delay = 0.001
    scene.bucket.waits = [0.001, 0.001]
    scene.feed(b"a")
    scene.bucket.delay = 0.0
    await scene.until(scene.port.is_open)
    assert scene.bucket.waits == []


async def test_router_pauses_and_resumes_a_rest() -> None:
    """Neither lets go what the other holds."""
    scene = Scene(bound=2)
    scene.bucket.delay = 0.02
    scene.feed(b"aa", b"b")
    pauses = [scene.member.paused]
    scene.bucket.delay = 0.0
    assert scene.text == b"aa"
    assert [*pauses, scene.member.paused] == [True, False]
    assert scene.port.closed
    await scene.until(scene.port.is_open)
    assert scene.text == b"aab"

    scene.bucket.delay = 0.001
    scene.feed(b"cc", b"d")
    scene.bucket.delay = 0.0
    await asyncio.sleep(0.01)
    assert scene.port.closed, "the reader is clogged"
    assert bytes(scene.reader.client) == b"aab"
    assert scene.text == b"aabcc"
    await scene.until(scene.port.is_open)
    assert scene.text == b"aabccd"


async def test_end_of_file() -> None:
    """It waits for what comes before it, and for nothing else."""
    scene = Scene()
    scene.bucket.delay = 0.001
    scene.feed(b"a")
    scene.intake.feed_eof()
    assert scene.ended, "all is published"

    scene = Scene()
    scene.bucket.delay = 0.001
    scene.feed(b"a", b"b")
    scene.intake.feed_eof()
    assert scene.intake.complete_but_waiting
    await scene.until(lambda: scene.ended)
    assert scene.text == b"ab"


async def test_records() -> None:
    """They are counted as they come, whole or not."""
    scene = Scene(Framing.LINE)
    scene.bucket.delay = 0.001
    scene.feed(b"on", b"e\ntwo\nth")
    scene.bucket.delay = 0.0
    await scene.until(scene.port.is_open)
    assert scene.text == b"one\ntwo\n"
    assert scene.bucket.taken == 10


async def test_session_that_is_over() -> None:
    """Nothing comes of a rest that was under way."""
    scene = Scene()
    scene.bucket.delay = 0.001
    scene.feed(b"a", b"b")
    scene.intake.discard()
    await asyncio.sleep(0.01)
    assert scene.text == b"a"
    assert scene.port.closed
