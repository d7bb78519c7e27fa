"""What a command reads of its stdin: all of it, up to a bound."""

from __future__ import annotations

import asyncio

import pytest

from pipe.errors import UsageError
from pipe.session.collector import Collector
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

MEMBER = Member(Mode.PUBLISH)


async def test_all_of_it() -> None:
    """It is there once the end of file is, and not before."""
    collector = Collector(10)
    waiting = asyncio.ensure_future(collector.wait_collected())
    collector.publish(MEMBER, Chunk(b"123"))
    collector.deal(MEMBER, Chunk(b"456"), b"\n")
    await asyncio.sleep(0)
    assert not waiting.done()
    collector.publish(MEMBER, Chunk(b"7890"))
    collector.end(MEMBER)

    assert await waiting == b"1234567890"


async def test_too_much_of_it() -> None:
    """One byte too many is an error at once; what else comes is not kept."""
    collector = Collector(1024)
    for piece in (b"1" * 1024, b"2", b"3" * 1000):
        collector.publish(MEMBER, Chunk(piece))
    collector.end(MEMBER)

    with pytest.raises(UsageError, match="there is more than 1KiB on stdin"):
        await collector.wait_collected()
