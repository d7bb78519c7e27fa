"""Where the library's verbs work: in this process, and over the network."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pipe
from tests.e2e.processes import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from typing import TypeVar

    from pipe.library.verbs import Verbs
    from pipe.stream.router import Router
    from pipe.stream.topics import Member

    Result = TypeVar("Result")

BUFFER = 64 * 1024
"""What a reader may have waiting: little, so that tests that fill it are quick."""


@dataclass
class Place:
    """One of them.

    Attributes:
        verbs: what is tested.
        router: where its members are, in this process too.
        told: the lines about streams so far.
        joins: whether a reader's bytes may come in other pieces than they were written in.
    """

    verbs: Verbs
    router: Router
    told: list[str]
    joins: bool = True

    async def wait_members(self, topic: str = "", count: int = 0) -> None:
        """Wait until so many members are on a topic, or on all."""
        await self.until(lambda: len(self.members(topic)) == count)

    def members(self, topic: str = "") -> list[Member]:
        """Those on a topic, or on all."""
        return [
            member
            for name in self.router.names()
            if not topic or str(name).endswith(f"/{topic}")
            for member in self.router.members(name)
        ]

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(DEADLINE):
            while not true():  # noqa: ASYNC110 - of whatever has no event
                await asyncio.sleep(0.002)


async def soon(work: Awaitable[Result]) -> Result:
    """Wait for what must come."""
    async with asyncio.timeout(DEADLINE):
        return await work


@contextlib.asynccontextmanager
async def in_process(folder: Path) -> AsyncIterator[Place]:  # noqa: ARG001
    """A broker."""
    told: list[str] = []
    broker = pipe.Broker(buffer=BUFFER, on_status=told.append)
    yield Place(broker, broker._router, told, joins=False)  # noqa: SLF001
