"""What is the broker's own: its bounds, its figures, and that it needs nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import pipe
from pipe.language.names import TopicName
from pipe.stream.ports import Mode
from tests.library.places import soon

if TYPE_CHECKING:
    from pipe.library.verbs import Frame
    from pipe.stream.topics import Member

KIB = 1 << 10


async def test_pieces_are_what_was_written() -> None:
    """In one process a piece is what was written at once, up to a bound."""
    broker = pipe.Broker()
    reader = broker.subscribe("x")
    async with reader, broker.publish("x") as stream:
        await stream.write(b"one")
        await stream.write(bytearray(b"two"))
        await stream.write(memoryview(bytes(300 * KIB)))
        sizes = [len(await soon(anext(reader))) for _ in range(4)]
        assert sizes == [3, 3, 256 * KIB, 44 * KIB]
        ending = asyncio.create_task(reader.read())
    assert await soon(ending) == b""


async def test_what_is_written_may_be_changed_afterwards() -> None:
    """A publisher's buffer is its own again when the write is over."""
    broker = pipe.Broker()
    data = bytearray(b"before")
    async with broker.pipe("x", replay=True) as stream:
        await stream.write(data)
        data[:] = b"after!"
        assert await soon(anext(stream)) == b"before"


async def test_reader_that_goes_at_once() -> None:
    """What lets a publisher go on may be over before it does: then it waits for the next."""
    broker = pipe.Broker()

    async def write(data: bytes, frame: Frame) -> None:
        async with broker.publish("x", frame=frame) as stream:
            await stream.write(data)

    frames: tuple[Frame, ...] = ("none", "line")
    for frame in frames:
        writer = asyncio.create_task(write(b"whole", frame))
        while not (await broker.topics("x") and (await broker.topics("x"))[0].waiting):  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with broker.subscribe("x"):
            pass
        await asyncio.sleep(0)  # the publisher has its turn
        assert (await broker.topics("x"))[0].waiting == 1
        assert await soon(broker.subscribe("x").read()) == b"whole"
        await soon(writer)


async def test_forgotten_in_another_thread() -> None:
    """Garbage may be found in any thread, and leaves its topic in the broker's own."""
    broker = pipe.Broker()
    router = broker._router  # noqa: SLF001
    left: list[int] = []
    leave = router.leave

    def note(member: Member) -> None:
        left.append(threading.get_ident())
        leave(member)

    router.leave = note  # type: ignore[method-assign]
    forgotten = [broker.subscribe("x")]
    await forgotten[0].__aenter__()
    await asyncio.to_thread(forgotten.clear)
    while router.members(TopicName("local", ("x",))):  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert left == [threading.get_ident()]


async def test_stalled_reader() -> None:
    """One that takes nothing while another waits is cut off, and the other goes on."""
    broker = pipe.Broker(buffer=KIB, stall_timeout=0.2)
    idle = broker.subscribe("x")
    async with idle:
        reader = asyncio.create_task(broker.subscribe("x").read())
        while (await broker.topics("x"))[0].subscribers < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with broker.publish("x") as stream:
            for _ in range(4):
                await soon(stream.write(bytes(KIB)))
        assert len(await soon(reader)) == 4 * KIB
        with pytest.raises(pipe.CutOff, match="took nothing while others waited"):
            await soon(idle.read())


async def test_lone_reader_is_never_cut() -> None:
    """One that nobody waits for may take as long as it likes."""
    broker = pipe.Broker(buffer=KIB, stall_timeout=0.02)
    async with broker.subscribe("x") as stream, broker.publish("x", block=False) as writer:
        await writer.write(bytes(KIB))
        blocked = asyncio.create_task(writer.write(b"more"))
        await asyncio.sleep(0.1)  # five times the timeout
        assert len(await soon(anext(stream))) == KIB
        assert await soon(anext(stream)) == b"more"
        await blocked
        ending = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        assert not ending.done()
    assert await soon(ending) == b""


async def test_past_ends() -> None:
    """What lingers is gone after its time, unless somebody publishes again."""
    broker = pipe.Broker()
    for text in (b"one", b"two"):
        async with broker.publish("x", block=False, keep=100, linger=0.02) as stream:
            await stream.write(text)
    assert [topic.name for topic in await broker.topics()] == ["local/x"]
    assert await soon(broker.subscribe("x", last=100).read()) == b"onetwo"
    while await broker.topics():  # noqa: ASYNC110 - of whatever has no event
        await asyncio.sleep(0.005)


async def test_statistics() -> None:
    """Its figures count what all have moved, those that have left included."""
    broker = pipe.Broker()
    reader = asyncio.create_task(broker.subscribe("x").read())
    async with broker.publish("x") as stream:
        await stream.write(b"12345")
    await reader
    figures = broker.statistics()
    assert figures.received_bytes[Mode.PUBLISH] == figures.delivered_bytes[Mode.SUBSCRIBE] == 5
    assert figures.topics == 0


async def test_status_lines() -> None:
    """What the commands say on stderr is told to whoever asks."""
    told: list[str] = []
    broker = pipe.Broker(on_status=told.append)
    writer = broker.publish("x", timeout=60)
    async with writer as stream:
        reader = asyncio.create_task(broker.subscribe("x").read())
        await stream.write(b"1")
    await reader
    assert told == ["waiting for 1 subscriber, up to 1m", "a subscriber is here, sending"]


def test_needs_neither_ssh_nor_database() -> None:
    """Neither is even imported."""
    code = (
        "import sys, pipe; pipe.Broker()\n"
        "print([name for name in ('asyncssh', 'sqlalchemy', 'aiohttp') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
