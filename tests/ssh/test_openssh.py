"""What clients ask of a server that calls itself OpenSSH, on both data paths."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import asyncssh
import pytest
import pytest_asyncio
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_GLOBAL_REQUEST,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from asyncssh.packet import Boolean, Byte, SSHPacket, String

from pipe.access import Caller
from pipe.errors import Outcome
from pipe.service import Service
from pipe.settings import Settings
from pipe.ssh.channel.session import Session
from tests.ssh.messages import close, data, eof, execute, open_session, request
from tests.ssh.wire import HOST_KEY, LANES, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipe.settings import Lane

END_OF_WRITE = "eow@openssh.com"
NO_MORE_SESSIONS = "no-more-sessions@openssh.com"


class Line:
    """One connection of alice's, with the real sessions behind it."""

    def __init__(self, lane: Lane) -> None:
        store = cast("Any", SimpleNamespace(database=None))
        self.service = Service(Settings(lane=lane), store)
        self.wire = Wire(lane, service=self.service)
        self.wire.make_session = lambda _: Session(
            self.service, self.wire.server, Caller("alice", "SHA256:a")
        )
        self.client = self.wire.client

    async def start(self, number: int, command: str) -> None:
        """Open a session that runs a command; it has this number at both ends."""
        await self.say(open_session(number))
        await self.say(execute(number, command))

    async def say(self, *payloads: bytes) -> None:
        """Send these, and wait for what comes of it."""
        for payload in payloads:
            self.client.send(payload)
        await self.wire.settle()

    async def ask(self, name: str, body: bytes = b"") -> int:
        """Make a global request; return the kind of its one answer."""
        before = len(self.client.received)
        await self.say(Byte(MSG_GLOBAL_REQUEST) + String(name) + Boolean(True) + body)
        [answer] = self.client.received[before:]
        return answer.kind

    def statuses(self, number: int) -> list[int]:
        """The exit statuses that a session was given."""
        found = []
        for body in self.client.of_kind(MSG_CHANNEL_REQUEST):
            packet = SSHPacket(body)
            if packet.get_uint32() == number and packet.get_string() == b"exit-status":
                packet.get_boolean()
                found.append(packet.get_uint32())
        return found

    def closed(self, number: int) -> bool:
        """Whether the server has closed a channel."""
        return number.to_bytes(4, "big") in self.client.of_kind(MSG_CHANNEL_CLOSE)

    def ended(self, mode: str) -> dict[str, float]:
        """How many sessions of a mode have ended, by outcome."""
        value = self.service.metrics.registry.get_sample_value
        counts = {
            one.label: value("pipe_sessions_ended_total", {"mode": mode, "outcome": one.label})
            for one in Outcome
        }
        return {label: count for label, count in counts.items() if count}


@pytest_asyncio.fixture(params=LANES)
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    """A connection that is logged in, on each data path."""
    line = Line(request.param)
    await line.wire.log_in()
    yield line
    await line.wire.finish()


@pytest.mark.parametrize("command", ["sub -k log", "sub log", "sub -k 'l*'", "pipe log"])
async def test_reader_whose_stdout_is_gone_has_left(line: Line, command: str) -> None:
    """It ends at once, as `left` and with the status of SIGPIPE; its publisher waits for another.

    The receipt counts it as one that left early.
    """
    await line.start(0, command)
    await line.start(1, "pub log")
    await line.say(data(1, b"one\n"))
    assert line.client.data(0) == b"one\n"

    await line.say(request(0, END_OF_WRITE, reply=False))
    assert (line.statuses(0), line.closed(0)) == ([141], True)
    await line.say(data(1, b"two\n"), close(0))
    assert line.client.data(0) == b"one\n"
    assert line.ended("pipe" if command == "pipe log" else "subscribe") == {"left": 1}
    assert not line.closed(1)

    await line.start(2, "sub log")
    await line.say(eof(1), close(2))
    assert line.client.data(2) == b"two\n"
    assert (line.statuses(1), line.statuses(2)) == ([0], [0])
    assert b"sent 8 bytes to 2 subscribers, 1 of them left early" in line.client.stderr(1)


async def test_reader_that_had_been_sent_everything(line: Line) -> None:
    """Told so while the status is under way, the receipt counts the reader as left early."""
    await line.start(0, "sub log")
    await line.start(1, "pub log")
    await line.say(data(1, b"one\n"), eof(1))
    assert line.statuses(0) == [0]

    await line.say(request(0, END_OF_WRITE, reply=False), close(0))
    assert line.statuses(0) == [0]
    assert b"sent 4 bytes to 1 subscriber, 1 of them left early" in line.client.stderr(1)


async def test_publisher_goes_on_without_stdout(line: Line) -> None:
    """Who only writes has no use for it."""
    await line.start(0, "sub log")
    await line.start(1, "pub log")
    await line.say(request(1, END_OF_WRITE), data(1, b"one\n"), eof(1), close(0))

    assert line.client.data(0) == b"one\n"
    assert line.statuses(1) == [0]
    assert len(line.client.of_kind(MSG_CHANNEL_SUCCESS)) == 3  # of this and of two commands


async def test_others_on_the_connection_go_on(line: Line) -> None:
    """One session's stdout says nothing of the others'."""
    await line.start(0, "sub -k log")
    await line.start(1, "sub -k log")
    await line.start(2, "pub log")
    await line.say(request(0, END_OF_WRITE, reply=False), data(2, b"one\n"))

    assert (line.client.data(0), line.client.data(1)) == (b"", b"one\n")


async def test_end_of_write_with_more_behind_it(line: Line) -> None:
    """It is out of order, as with any request that asyncssh knows."""
    await line.start(0, "sub -k log")
    await line.say(request(0, END_OF_WRITE, b"more"))

    assert line.client.goodbye
    assert line.client.goodbye.code == asyncssh.DISC_PROTOCOL_ERROR


async def test_no_more_sessions(line: Line) -> None:
    """From then on sessions are refused; those that are there go on."""
    await line.start(0, "sub -k log")
    assert await line.ask(NO_MORE_SESSIONS) == MSG_REQUEST_SUCCESS
    await line.say(open_session(1))
    [refusal] = line.client.of_kind(MSG_CHANNEL_OPEN_FAILURE)
    packet = SSHPacket(refusal)

    assert (packet.get_uint32(), packet.get_uint32()) == (
        1,
        asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED,
    )
    assert len(line.client.of_kind(MSG_CHANNEL_OPEN_CONFIRMATION)) == 1
    assert not line.closed(0)


@pytest.mark.parametrize(
    ("name", "body", "answer"),
    [
        ("keepalive@openssh.com", b"", MSG_REQUEST_SUCCESS),
        ("hostkeys-prove-00@openssh.com", String(HOST_KEY.public_data), MSG_REQUEST_FAILURE),
        ("hostkeys-prove-00@openssh.com", b"", MSG_REQUEST_FAILURE),
        ("streamlocal-forward@openssh.com", String("/tmp/x"), MSG_REQUEST_FAILURE),  # noqa: S108
        ("anything@openssh.com", b"abc", MSG_REQUEST_FAILURE),
    ],
)
async def test_global_requests(line: Line, name: str, body: bytes, answer: int) -> None:
    """A sign of life is answered; what is not offered is refused, and sessions go on."""
    assert await line.ask(name, body) == answer
    await line.start(0, "sub -k log")
    assert not line.closed(0)


@pytest.mark.parametrize(
    "name", ["keepalive@openssh.com", "auth-agent-req@openssh.com", "anything@openssh.com"]
)
async def test_requests_of_a_channel(line: Line, name: str) -> None:
    """What is not offered is refused, and the session goes on."""
    await line.start(0, "sub -k log")
    await line.say(request(0, name))

    assert len(line.client.of_kind(MSG_CHANNEL_FAILURE)) == 1
    assert not line.closed(0)
