"""A far session's port and intake pass the suite that all sinks and sources pass.

The session, its port and its intake are the real ones, and so is the link but for its wire.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest_asyncio

from pipe.language.requests import parse
from pipe.mesh.home import FarFront
from pipe.service import Service
from pipe.session.session import Session
from pipe.settings import Settings
from tests.conformance import (
    RecordingRouter,
    SinkConformance,
    SinkEnd,
    SourceConformance,
    SourceEnd,
)
from tests.fakes import NoStore
from tests.mesh.simulation import FarClient, Pair, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

    from pipe.elsewhere import Errand
    from pipe.mesh.home import HomeEnd
    from pipe.stream.topics import Member

BUFFER = 65_536

QUIET_TURNS = 4
"""Turns of the loop in which nothing happens, after which nothing more does."""


class Ends:
    """One session of alice's at the home, and its client at the other end of a link."""

    def __init__(self, bound: int, *, by_link: bool) -> None:
        service = Service(Settings(buffer=BUFFER), cast("Any", NoStore()))
        self.service = service
        self.router = service.router = RecordingRouter()
        self.pair = Pair(self._welcome)
        self.client = FarClient(bound)
        self._by_link = by_link
        self.session: Session

    def _welcome(self, end: HomeEnd, number: int, errand: Errand) -> FarFront:
        service = self.service
        front = FarFront(end.link, number, errand, service.router, BUFFER, end.forget)
        front.session = self.session = Session(service, front, errand.caller, errand.address, ())
        self.session.start(lambda: errand.request)
        return front

    async def run(self, command: str) -> Member:
        """Run a command, and return its member."""
        request = parse(command)
        open_session(self.pair, self.client, request)
        await self.settle()
        assert self.session.member
        return self.session.member

    async def settle(self) -> None:
        """Carry all."""
        quiet = 0
        while quiet < QUIET_TURNS:
            quiet = (
                0 if self.pair.step(self.pair.up) or self.pair.step(self.pair.down) else quiet + 1
            )
            await asyncio.sleep(0)

    def vanish(self) -> None:
        """Lose the client, or the link."""
        if self._by_link:
            self.pair.cut()
        else:
            self.client.hang_up(lost=True)

    async def stop(self) -> None:
        """Leave nothing behind."""
        self.pair.cut()
        await self.settle()


class FarEnd(SinkEnd):
    """A subscriber in another worker."""

    bound = BUFFER

    def __init__(self, bound: int, *, by_link: bool) -> None:
        self.ends = Ends(bound, by_link=by_link)
        self.router = self.ends.router

    async def start(self) -> None:
        """Subscribe."""
        self.member = await self.ends.run("sub -c build")

    async def read(self, size: int) -> bytes:
        """Read as it comes."""
        got = bytearray()
        while len(got) < size:
            await self.until(lambda: self.ends.client.pending)
            got += self.ends.client.take(size - len(got))
        await self.settle()
        return bytes(got)

    async def read_to_end(self) -> bytes:
        """Read until the end is there."""
        got = bytearray()
        while not self.ends.client.ending:
            got += self.ends.client.take()
            await self.settle()
        got += self.ends.client.take()
        return bytes(got)

    async def settle(self) -> None:
        """Carry all."""
        await self.ends.settle()

    async def until(self, condition: Callable[[], object]) -> None:
        """Carry all meanwhile."""
        while not condition():
            await self.ends.settle()

    async def vanish(self) -> None:
        """Go."""
        self.ends.vanish()

    async def exit_status(self) -> int:
        """What the client gets."""
        await self.until(lambda: self.ends.client.ending)
        assert self.ends.client.ending
        await self.settle()
        return self.ends.client.ending[1]


class FarSourceEnd(SourceEnd):
    """A publisher in another worker."""

    def __init__(self, *, by_link: bool) -> None:
        self.ends = Ends(BUFFER, by_link=by_link)
        self.router = self.ends.router

    async def start(self) -> None:
        """Publish."""
        self.member = await self.ends.run("pub build")

    async def send(self, data: bytes) -> None:
        """Write."""
        self.ends.client.type(data)

    async def send_end(self) -> None:
        """End."""
        self.ends.client.type_end()

    async def settle(self) -> None:
        """Carry all."""
        await self.ends.settle()

    async def until(self, condition: Callable[[], object]) -> None:
        """Carry all meanwhile."""
        while not condition():
            await self.ends.settle()

    async def vanish(self) -> None:
        """Go."""
        self.ends.vanish()

    async def exit_status(self) -> int:
        """What the client gets."""
        await self.until(lambda: self.ends.client.ending)
        assert self.ends.client.ending
        await self.settle()
        return self.ends.client.ending[1]


class TestFarPort(SinkConformance):
    """`pipe.mesh.port.FarPort`."""

    @pytest_asyncio.fixture(
        params=[(1 << 30, False), (BUFFER // 3, False), (1 << 30, True)],
        ids=["bound by the home", "bound by the client", "the link is lost"],
    )
    async def end(self, request: pytest.FixtureRequest) -> AsyncIterator[FarEnd]:
        """A subscriber whose client is clogged sooner or later than the home's port."""
        bound, by_link = request.param
        end = FarEnd(bound, by_link=by_link)
        await end.start()
        yield end
        await end.ends.stop()


class TestFarIntake(SourceConformance):
    """`pipe.session.intake.Intake` behind a `FarPort`."""

    @pytest_asyncio.fixture(params=[False, True], ids=["client", "link"])
    async def end(self, request: pytest.FixtureRequest) -> AsyncIterator[FarSourceEnd]:
        """A publisher that is lost by itself, or with the link."""
        end = FarSourceEnd(by_link=request.param)
        await end.start()
        yield end
        await end.ends.stop()
