"""What clients ask of a server that calls itself OpenSSH, on both data paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh
import pytest
import pytest_asyncio
from asyncssh.constants import (
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_SUCCESS,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from asyncssh.packet import SSHPacket, String

from tests.ssh.line import Line
from tests.ssh.messages import close, data, eof, open_session, request
from tests.ssh.wire import HOST_KEY, LANES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

END_OF_WRITE = "eow@openssh.com"
NO_MORE_SESSIONS = "no-more-sessions@openssh.com"


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
    """Who only writes, and has written everything, has no use for it."""
    await line.start(0, "sub log")
    await line.start(1, "pub log")
    await line.say(data(1, b"one\n"), eof(1), request(1, END_OF_WRITE), close(0))

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
    ids=["keepalive", "prove our host key", "prove none", "forward", "unknown"],
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
