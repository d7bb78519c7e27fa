"""The watch over memory: publishers stand while readers have much to take, and only then."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pipe.language.names import TopicName
from pipe.limits import memory_watch
from pipe.limits.memory import MemoryAlarm
from pipe.limits.memory_watch import watch_memory
from pipe.stream.router import Router
from tests.fakes import publisher, subscriber

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


MIB = 1 << 20
NEWS = TopicName("alice", ("news",))


class Scene:
    """A router under watch, with memory that the test sets."""

    def __init__(self) -> None:
        self.router = Router()
        self.resident = 10 * MIB
        self.looks = 0
        self.alarm = MemoryAlarm(100 * MIB)

    def measure(self) -> int:
        """What the watch takes for the resident memory."""
        self.looks += 1
        return self.resident

    async def look(self, times: int) -> None:
        """Wait until the watch has looked so many times."""
        enough = self.looks + times
        await self.until(lambda: self.looks >= enough)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the watch brings about."""
        while not condition():  # noqa: ASYNC110 - the watch itself looks now and then
            await asyncio.sleep(0.001)


@pytest_asyncio.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A scene whose watch looks often."""
    monkeypatch.setattr(memory_watch, "LOOK_SECONDS", 0.001)
    scene = Scene()
    task = asyncio.create_task(watch_memory(scene.router, scene.alarm, MIB, scene.measure))
    yield scene
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_writers_stand_until_readers_have_caught_up(scene: Scene) -> None:
    """Memory that waits for readers pauses writers; when it is taken, or free, they go on."""
    reader = subscriber(scene.router, NEWS, bound=20 * MIB)
    writer = publisher(scene.router, NEWS)
    writer.send(bytes(10 * MIB))
    scene.resident = 101 * MIB
    await scene.until(lambda: scene.router.held)
    assert writer.calls[-1] == "pause"
    assert scene.alarm.active

    reader.drain()
    await scene.until(lambda: not scene.router.held)
    assert writer.calls[-1] == "resume"
    assert scene.alarm.active, "there is no more of it, only nothing to gain"
    writer.send(bytes(10 * MIB))
    await scene.until(lambda: scene.router.held)
    scene.resident = 89 * MIB
    await scene.until(lambda: not scene.router.held)
    assert not scene.alarm.active


async def test_reader_that_stands_holds_nobody_up(scene: Scene) -> None:
    """With little to be gained from readers, writers go on though memory is short."""
    subscriber(scene.router, NEWS, bound=1 * MIB)
    stuck = publisher(scene.router, NEWS)
    stuck.send(bytes(MIB))
    scene.resident = 101 * MIB
    await scene.until(lambda: scene.alarm.active)
    writer = publisher(scene.router, TopicName("bob", ("x",)))
    subscriber(scene.router, TopicName("bob", ("x",)))
    for _ in range(5):
        await asyncio.sleep(0.002)
        assert not writer.paused
    assert stuck.paused


async def test_memory_that_a_crowd_left_is_given_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody knows how much there is, and so there is no alarm."""
    tidied: list[int] = []
    monkeypatch.setattr(memory_watch, "give_back_memory", lambda: tidied.append(scene.resident))
    scene.resident += 17 * MIB
    await scene.until(lambda: len(tidied) > 1)
    scene.resident -= 2 * MIB
    await scene.look(2)
    tidied.clear()
    await scene.look(3 * memory_watch.TIDY_LOOKS)
    assert not tidied, "there is little to give back"


async def test_unknown_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows how much there is, and nobody has said, no alarm begins."""
    monkeypatch.setattr(memory_watch, "LOOK_SECONDS", 0.001)
    measured = iter((0, 1 << 40, 1 << 50))
    alarm = MemoryAlarm(0)
    with pytest.raises(RuntimeError):  # the measurements have all been looked at
        await watch_memory(Router(), alarm, MIB, lambda: next(measured))
    assert not alarm.active
