"""What is watched elsewhere, without a link: who is told what, and what is tried again."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from pydantic import TypeAdapter
from structlog.testing import capture_logs

from pipe.errors import Outcome, Unreachable
from pipe.events.listener import Listener
from pipe.events.webhooks.cutting import Streams
from pipe.mesh import watching
from pipe.mesh.directory import WorkerId
from pipe.mesh.frames import Kind
from pipe.mesh.link import Link
from pipe.mesh.watching import FarWatch, News, Order, Watches
from pipe.stream.chunks import Chunk
from pipe.stream.router import Router
from tests.fakes import NAME, pipe, publisher, subscriber

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipe.events.webhooks.cutting import Body
    from pipe.language.names import TopicName

ME, THERE = WorkerId("", 1, 1), WorkerId("", 2, 2)
OFTEN = 0.005
LAST = News(ended=(0, False, True))
_NEWS = TypeAdapter(News)


class Hook:
    """A webhook's reader, which keeps the bodies."""

    def __init__(self, router: Router, *, allowed: bool = True) -> None:
        self.allowed = allowed
        self.bodies: list[bytes] = []
        self.lost = 0
        self._streams = Streams(self._emit, self._lose, lambda: 1 << 20)
        self._listener = Listener(
            router,
            NAME,
            self._take,
            self._end,
            lambda _: self.allowed,
            self._streams.begin_late,
        )
        self._listener.start()

    def _emit(self, body: Body) -> bool:
        self.bodies.append(body.data)
        return True

    def _lose(self, count: int) -> None:
        self.lost += count

    def _take(self, chunk: Chunk) -> None:
        self._streams.feed(bytes(chunk.data))

    def _end(self, status: int, broken: bool) -> None:
        self._streams.end(status, broken=broken)


class Scene:
    """One worker's watches; the topic is at home in another, of which a test plays the part."""

    def __init__(self) -> None:
        self.router = Router()
        self.home: WorkerId | None = THERE
        self.link: Any = Mock(spec=Link, over=False)
        self.clients: list[Any] = []
        self.relays: list[Any] = []
        self.reached = 0
        self.unreachable = False
        self.dead = 0  # links that have ended when they are used
        self.watches = Watches(self.router, self, ME, self.reach)
        self.router.watched = self.watches.watch

    async def find(self, topic: TopicName) -> WorkerId | None:  # noqa: ARG002
        """Say where it is."""
        return self.home

    def watch(self, topic: TopicName | bytes, watched: Any) -> Any:  # noqa: ANN401
        """Be the directory, which need not know, and the link's end, which gets an order."""
        if not isinstance(topic, bytes):
            return None
        self.clients.append(watched)
        self.relays.append(Mock(lose=watched.lose))
        return self.relays[-1]

    async def reach(self, worker: WorkerId) -> Any:  # noqa: ANN401
        """Be the link's end."""
        assert worker == THERE
        self.reached += 1
        if self.unreachable:
            raise Unreachable("it is not there")
        self.link.over = self.reached <= self.dead
        return self

    def tell(self, *news: News) -> None:
        """Say what has happened there."""
        for one in news:
            self.clients[-1].tell(_NEWS.dump_json(one).decode())

    def write(self, data: bytes) -> None:
        """Send a chunk from there."""
        self.clients[-1].write(Chunk(data))

    async def until_reached(self, times: int) -> None:
        """Wait until it was tried so many times to reach the other worker."""
        async with asyncio.timeout(30):
            while self.reached < times:  # noqa: ASYNC110
                await asyncio.sleep(OFTEN)


async def settle() -> None:
    """Let all be done that is due."""
    for _ in range(9):
        await asyncio.sleep(0)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A worker that watches nothing yet."""
    made = Scene()
    yield made
    made.watches.close()
    await settle()


@pytest.mark.parametrize("told", [True, False])
async def test_second_webhook_in_mid_stream(scene: Scene, told: bool) -> None:
    """One that begins while another has it watched sends no tail as a whole stream.

    Whether the size was told before the bytes, or waits because the link is blocked.
    """
    first = Hook(scene.router)
    await settle()
    scene.tell(*[News(size=5)] * told)
    scene.write(b"head ")
    second = Hook(scene.router)
    await settle()
    assert len(scene.clients) == 1
    scene.tell(News(size=4))
    scene.write(b"tail")
    scene.tell(LAST)
    assert (first.bodies, first.lost) == ([b"head tail"], 0)
    assert (second.bodies, second.lost) == ([], 1)
    scene.tell(News(size=4))
    scene.write(b"next")
    scene.tell(LAST)
    assert (first.bodies[1:], second.bodies) == ([b"next"], [b"next"])


async def test_second_webhook_between_streams(scene: Scene) -> None:
    """One that begins when no stream is under way gets the next as a whole."""
    Hook(scene.router)
    await settle()
    scene.tell(News(size=3))
    scene.write(b"one")
    scene.tell(LAST)
    second = Hook(scene.router)
    scene.tell(News(size=3))
    scene.write(b"two")
    scene.tell(LAST)
    assert (second.bodies, second.lost) == ([b"two"], 0)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("back", [True, False])
async def test_right_that_comes_and_goes_in_mid_stream(
    scene: Scene, told: bool, back: bool
) -> None:
    """Of two readers one may not read for a part of a stream, and sends none of it as a whole."""
    first, second = Hook(scene.router), Hook(scene.router, allowed=back)
    await settle()
    for data, allowed in ((b"one ", back), (b"two ", not back), (b"three", True)):
        second.allowed = allowed
        scene.tell(*[News(size=len(data))] * told)
        scene.write(data)
    scene.tell(News(size=13 * (not told), ended=(0, False, True)))
    assert (first.bodies, second.bodies) == ([b"one two three"], [])
    assert second.lost
    scene.tell(News(size=4))
    scene.write(b"next")
    scene.tell(LAST)
    assert (first.bodies[1:], second.bodies) == ([b"next"], [b"next"])


async def test_right_that_comes_between_streams(scene: Scene) -> None:
    """Of a stream from which nothing was sent here there is no empty body."""
    scene.router.watch(NAME, Mock())  # so that it is watched, if only for its sizes
    hook = Hook(scene.router, allowed=False)
    await settle()
    hook.allowed = True
    scene.tell(News(size=5), LAST)
    assert (hook.bodies, hook.lost) == ([], 1)


async def test_moved_in_mid_stream(scene: Scene) -> None:
    """A stream whose end is not heard of does not become one with what comes here."""
    hook = Hook(scene.router)
    await settle()
    scene.tell(News(size=5))
    scene.write(b"head ")
    scene.home = ME
    scene.watches.look(NAME)
    await settle()
    assert scene.relays[0].leave.called
    sink, source = subscriber(scene.router, NAME), publisher(scene.router, NAME)
    source.send("other")
    source.end()
    sink.drain()
    assert (hook.bodies, hook.lost) == ([], 1)


class Far:
    """A watch for another worker, with all that it tells there."""

    def __init__(self) -> None:
        self.router = Router()
        self.link: Any = Mock(spec=Link, blocked=False)
        order = memoryview(json.dumps(Order(str(NAME), chunks=False)).encode())
        self.watch = FarWatch(self.link, 1, order, self.router, 1 << 20, lambda: None)
        self.watch.start()
        self.link.send.reset_mock()

    @property
    def news(self) -> list[News]:
        """What it has told."""
        calls = (call.args for call in self.link.send.call_args_list)
        return [_NEWS.validate_json(one[2]) for one in calls if one[0] is Kind.TELL]

    def block(self, blocked: bool) -> None:
        """Block the link, or let it go on."""
        self.link.blocked = blocked
        self.watch.port.link_changed()


def test_silent_pipe_that_was_there_last() -> None:
    """It ends no job, but the stream that it has kept open."""
    far = Far()
    waits, _ = pipe(far.router, NAME)
    source = publisher(far.router, NAME)
    source.send("abc")
    source.end()
    waits.vanish()
    assert far.news == [News(3), News(ended=(0, False, False)), News(idle=True)]


async def test_stream_that_a_silent_pipe_has_kept_open(scene: Scene) -> None:
    """It is one body, and what comes after it another."""
    hook = Hook(scene.router)
    await settle()
    scene.write(b"abc")
    scene.tell(News(3), News(ended=(0, False, False)), News(idle=True))
    assert hook.bodies == [b"abc"]
    scene.write(b"next")
    scene.tell(News(4), LAST)
    assert hook.bodies == [b"abc", b"next"]


def test_blocked_link_does_not_get_a_frame_per_chunk() -> None:
    """What comes while it is blocked is told once it is not."""
    far = Far()
    subscriber(far.router, NAME, bound=1 << 20)
    source = publisher(far.router, NAME)
    source.send("a")
    far.block(True)
    for _ in range(1000):
        source.send("bc")
    assert far.news == [News(1)]
    far.block(False)
    assert far.news == [News(1), News(2000)]
    source.send("d")
    far.block(True)
    far.block(False)
    assert far.news[2:] == [News(1)]


def test_what_a_blocked_link_was_not_told_comes_before_the_end() -> None:
    """The bytes count before their stream ends, and that before the topic is gone."""
    far = Far()
    sink, source = subscriber(far.router, NAME), publisher(far.router, NAME)
    far.block(True)
    source.send("abc", "de")
    source.end()
    sink.drain()
    far.watch.closed(NAME)
    assert far.news == [News(5, ended=(0, False, True)), News(closed=True)]


def test_what_a_blocked_link_was_not_told_comes_before_a_cut() -> None:
    """Nor is it forgotten if the watch is given up."""
    far = Far()
    subscriber(far.router, NAME)
    far.block(True)
    publisher(far.router, NAME).send("abc")
    far.watch.cut(Outcome.CUT)
    kinds = [call.args[0] for call in far.link.send.call_args_list]
    assert kinds == [Kind.TELL, Kind.CUT, Kind.CLOSED]
    assert far.news == [News(3)]


async def test_failed_watch_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried until it is watched, and told once; then nothing is tried any more."""
    monkeypatch.setattr(watching, "RETRY_SECONDS", OFTEN)
    scene.unreachable = True
    with capture_logs() as logs:
        Hook(scene.router)
        await scene.until_reached(4)
    assert [one["event"] for one in logs] == ["topic not watched elsewhere"]
    scene.unreachable = False
    await scene.until_reached(scene.reached + 1)
    await settle()
    assert len(scene.clients) == 1
    reached = scene.reached
    await asyncio.sleep(OFTEN * 4)
    assert scene.reached == reached


@pytest.mark.parametrize("closes", [True, False])
async def test_one_timer(scene: Scene, monkeypatch: pytest.MonkeyPatch, closes: bool) -> None:
    """Nothing is tried after the end, and all at once when the workers change."""
    timers: list[Any] = []

    def call_later(seconds: float, *_: object) -> Any:  # noqa: ANN401
        assert seconds == watching.RETRY_SECONDS
        timers.append(Mock())
        return timers[-1]

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later, raising=False)
    scene.unreachable = True
    Hook(scene.router)
    await settle()
    scene.watches.look(NAME)
    await settle()
    assert (scene.reached, len(timers)) == (2, 1)
    if closes:
        scene.watches.close()
    else:
        scene.watches.look_again()
    await settle()
    assert timers[0].cancel.called
    assert (scene.reached, len(timers)) == ((2, 1) if closes else (3, 2))


async def test_link_that_ends_before_the_watch(scene: Scene) -> None:
    """It is watched over a new one."""
    scene.dead = 1
    hook = Hook(scene.router)
    await settle()
    assert len(scene.clients) == 2
    scene.tell(News(size=5))
    scene.write(b"whole")
    scene.tell(LAST)
    assert hook.bodies == [b"whole"]
