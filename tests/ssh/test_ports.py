"""Ports and intakes of both data paths pass the suite that all sinks and sources pass.

The session, its port and its intake are the real ones, and so is all below them but the network.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest_asyncio
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import SSHPacket

from pipe.rights.callers import Caller
from pipe.service import Service
from pipe.settings import Lane, Settings
from pipe.ssh.channel import Channel
from pipe.ssh.connection import MIN_PACKET_BYTES
from tests.conformance import (
    RecordingRouter,
    SinkConformance,
    SinkEnd,
    SourceConformance,
    SourceEnd,
)
from tests.fakes import NoStore
from tests.ssh.messages import adjust, close, data, eof, execute, open_session
from tests.ssh.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

    from pipe.stream.topics import Member
    from tests.ssh.led_client import Received

BUFFER = 65_536
WINDOW = 65_536


class Ends:
    """One session of alice's and its client, on channel 0 of both ends."""

    def __init__(self, lane: Lane, most: int, window: int) -> None:
        store = cast("Any", NoStore())
        service = Service(Settings(lane=lane, buffer=BUFFER, window=WINDOW), store)
        self.router = service.router = RecordingRouter()
        self.wire = Wire(lane, service=service)
        self.wire.make_session = self._make_session
        self.wire.client.on_packet = self._take
        self.most = most
        self.window = window
        self._outgoing = bytearray()
        self._ended = False
        self._room = 0
        self._at_end = False
        self.channel: Channel

    def _make_session(self, _number: int) -> Channel:
        caller = Caller("alice", "SHA256:alice")
        self.channel = Channel(self.wire.service, self.wire.server, caller)
        return self.channel

    async def run(self, command: str) -> Member:
        """Log in, run a command, and return its member."""
        await self.wire.log_in()
        self.wire.client.send(open_session(0, self.window, self.most))
        await self.wire.settle()
        self.wire.client.send(execute(0, command))
        await self.wire.settle()
        assert self.channel.session.member
        return self.channel.session.member

    def _take(self, received: Received) -> None:
        """Keep to the window, and answer the end of the channel, as every client does."""
        body = SSHPacket(received.body)
        if received.kind == MSG_CHANNEL_OPEN_CONFIRMATION:
            body.get_uint32()
            body.get_uint32()
            self._room = body.get_uint32()
        elif received.kind == MSG_CHANNEL_WINDOW_ADJUST:
            body.get_uint32()
            self._room += body.get_uint32()
            self.send(b"")
        elif received.kind == MSG_CHANNEL_CLOSE:
            self.wire.client.send(close(0))

    def send(self, content: bytes) -> None:
        """Write, as far as the server's window allows now; the rest when it does."""
        self._outgoing += content
        while self._outgoing and self._room:
            size = min(len(self._outgoing), self._room, 32_768)
            self.wire.client.send(data(0, bytes(self._outgoing[:size])))
            del self._outgoing[:size]
            self._room -= size
        if self._at_end and not self._outgoing and not self._ended:
            self._ended = True
            self.wire.client.send(eof(0))

    def send_end(self) -> None:
        """End the stream, behind what is still to be written."""
        self._at_end = True
        self.send(b"")

    @property
    def at_end(self) -> bool:
        """Whether the server has ended its stream."""
        return bool(self.wire.client.of_kind(MSG_CHANNEL_EOF))

    def status(self) -> int | None:
        """The exit status, once it has come."""
        for body in self.wire.client.of_kind(MSG_CHANNEL_REQUEST):
            packet = SSHPacket(body)
            packet.get_uint32()
            if packet.get_string() == b"exit-status":
                packet.get_boolean()
                return packet.get_uint32()
        return None

    async def vanish(self) -> None:
        """Break the connection off."""
        self.wire.server_side.break_off(ConnectionResetError())

    async def exit_status(self) -> int:
        """Read what there is, and wait."""
        self.wire.client.send(adjust(0, 1 << 20))
        await self.wire.until(lambda: self.status() is not None)
        await self.wire.settle()
        status = self.status()
        assert status is not None
        return status


class PortEnd(SinkEnd):
    """A subscriber over SSH.  Its client's window is what it has been asked to read."""

    bound = BUFFER

    def __init__(self, lane: Lane, most: int) -> None:
        self._ends = Ends(lane, most, window=0)
        self.router = self._ends.router
        self._read = 0

    async def start(self) -> None:
        """Subscribe."""
        self.member = await self._ends.run("sub -c build")

    async def stop(self) -> None:
        """Leave."""
        await self._ends.wire.finish()

    async def read(self, size: int) -> bytes:
        """Open the window by what is missing."""
        client, start = self._ends.wire.client, self._read
        self._read += size
        while missing := self._read - len(client.data()):
            client.send(adjust(0, missing))
            before = self._read - missing
            await self.until(partial(self._has_more_than, before))
        return client.data()[start:]

    def _has_more_than(self, size: int) -> bool:
        return len(self._ends.wire.client.data()) > size

    async def read_to_end(self) -> bytes:
        """Open the window wide."""
        self._ends.wire.client.send(adjust(0, 1 << 26))
        await self.until(lambda: self._ends.at_end)
        start, self._read = self._read, len(self._ends.wire.client.data())
        return self._ends.wire.client.data()[start:]

    async def settle(self) -> None:
        """Carry all."""
        await self._ends.wire.settle()

    async def until(self, condition: Callable[[], object]) -> None:
        """Carry all meanwhile."""
        await self._ends.wire.until(condition)

    async def vanish(self) -> None:
        """Break off."""
        await self._ends.vanish()

    async def exit_status(self) -> int:
        """What the client gets."""
        return await self._ends.exit_status()


class IntakeEnd(SourceEnd):
    """A publisher over SSH."""

    def __init__(self, lane: Lane) -> None:
        self._ends = Ends(lane, most=32_768, window=1 << 20)
        self.router = self._ends.router

    async def start(self) -> None:
        """Publish."""
        self.member = await self._ends.run("pub build")

    async def stop(self) -> None:
        """Leave."""
        await self._ends.wire.finish()

    async def send(self, data: bytes) -> None:
        """Write."""
        self._ends.send(data)

    async def send_end(self) -> None:
        """End."""
        self._ends.send_end()

    async def settle(self) -> None:
        """Carry all."""
        await self._ends.wire.settle()

    async def until(self, condition: Callable[[], object]) -> None:
        """Carry all meanwhile."""
        await self._ends.wire.until(condition)

    async def vanish(self) -> None:
        """Break off."""
        await self._ends.vanish()

    async def exit_status(self) -> int:
        """What the client gets."""
        return await self._ends.exit_status()


class TestPort(SinkConformance):
    """`pipe.ssh.port.Port` and `pipe.ssh.lane.port.LanePort`."""

    @pytest_asyncio.fixture(
        params=[(Lane.FAST, 32_768), (Lane.FAST, MIN_PACKET_BYTES), (Lane.ASYNCSSH, 32_768)],
        ids=["fast", "fast in small packets", "asyncssh"],
    )
    async def end(self, request: pytest.FixtureRequest) -> AsyncIterator[PortEnd]:
        """A subscriber on either path."""
        lane, most = request.param
        end = PortEnd(lane, most)
        await end.start()
        yield end
        await end.stop()


class TestIntake(SourceConformance):
    """`pipe.session.intake.Intake` over both kinds of port."""

    @pytest_asyncio.fixture(params=list(Lane), ids=list(Lane))
    async def end(self, request: pytest.FixtureRequest) -> AsyncIterator[IntakeEnd]:
        """A publisher on either path."""
        end = IntakeEnd(request.param)
        await end.start()
        yield end
        await end.stop()
