"""What is taken out of a connection, and what is in the way; TCP notices nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from asyncssh.constants import MSG_GLOBAL_REQUEST, MSG_REQUEST_FAILURE
from asyncssh.packet import Byte

from pipe.errors import Ending, NotMoved
from pipe.ssh.lane import LaneConnection, Outbox
from pipe.ssh.lane.moving import detach, go_on, open_channel, prepare, take, why_stuck
from tests.e2e.processes import DEADLINE
from tests.ssh.memory_transport import MemoryTransport
from tests.ssh.messages import data, padded
from tests.ssh.wire import Wire

if TYPE_CHECKING:
    from pipe.ssh.lane.moving import LaneState

ESTABLISHED: Final = 1
"""The first byte of TCP_INFO (tcp(7)), for a connection that neither end has closed."""

HOST: Final = "127.0.0.1"


async def opened(**settings: Any) -> Wire:  # noqa: ANN401
    """A connection with one session."""
    wire = await Wire.ready(**settings)
    await wire.open()
    return wire


def stuck(wire: Wire) -> str:
    """Why it cannot be taken out."""
    return why_stuck(cast("LaneConnection", wire.server), wire.sessions[0].channel)


def take_out(wire: Wire) -> tuple[LaneState, bytes]:
    """Take out what there is."""
    return take(cast("LaneConnection", wire.server), wire.sessions[0].channel, "any")


def put_in(wire: Wire, state: LaneState, unread: bytes) -> None:
    """Let a new connection take the old one's place on the wire."""
    loop = asyncio.get_running_loop()
    old = cast("Any", wire.server)
    made = LaneConnection(loop, wire.options, wire.service, Outbox(loop, wire.service.turns))
    prepare(made, state)
    wire.server = made
    transport = MemoryTransport()
    wire.server_side, before = transport, wire.server_side
    transport.set_protocol(made)
    made.connection_made(transport)
    session = wire.make_session(len(wire.sessions))
    open_channel(made, state.channel, cast("Any", session))
    cast("Any", session).session_started()
    go_on(made, state, unread)
    assert not before.written
    old._cancel_keepalive_timer()
    for task in tuple(old._tasks):
        task.cancel()


async def test_nothing_in_the_way() -> None:
    """A connection at rest with one open session can be taken out."""
    wire = await opened()
    assert stuck(wire) == ""
    await wire.finish()


async def test_keys_are_exchanged() -> None:
    """Not while keys are exchanged, at any step, and again as soon as both have new ones."""
    wire = await opened()
    wire.client.rekey()
    seen = [stuck(wire)]
    async with asyncio.timeout(DEADLINE):
        while stuck(wire) or wire.server.keys < 2:
            wire.exchange()
            seen.append(stuck(wire))
            await asyncio.sleep(0)
    assert set(seen[1:-1]) <= {
        "",
        "keys are exchanged on it",
        "one of its packets is being handled",
    }
    assert "keys are exchanged on it" in seen
    assert stuck(wire) == ""
    await wire.finish()


async def test_no_login_yet() -> None:
    """Not before the login."""
    wire = await opened()
    server = cast("Any", wire.server)
    server._auth_complete = False
    assert stuck(wire) == "nobody has logged in on it yet"
    server._auth_complete = True
    await wire.finish()


async def test_unsent() -> None:
    """Not while something waits for the client, and the socket's refusal changes nothing."""
    wire = await opened()
    server = cast("LaneConnection", wire.server)
    server.pause_writing()
    assert stuck(wire) == "something is unsent"
    with pytest.raises(NotMoved, match="unsent"):
        take_out(wire)
    server.resume_writing()
    assert stuck(wire) == ""
    await wire.finish()


async def test_ending() -> None:
    """Not once it is ending."""
    wire = await opened()
    wire.server.cut_off(Ending.IDLE)
    assert stuck(wire) == "the connection is ending"
    await wire.finish()


async def test_two_channels() -> None:
    """Not with two channels, and not with one that has closed."""
    wire = await opened()
    await wire.open(first=1)
    assert stuck(wire) == "it has more than one channel"
    await wire.finish()


async def test_unread_input() -> None:
    """Input that was read and not handled goes along, the half of a packet as well."""
    wire = await opened()
    frames = [wire.client.frame(padded(data(0, text))) for text in (b"first", b"second")]
    whole = b"".join(frames)
    server = cast("LaneConnection", wire.server)
    server._input = whole[: len(frames[0]) + 7]
    state, unread = take_out(wire)
    put_in(wire, state, unread)
    wire.client_side.write(whole[len(unread) :])
    await wire.settle()
    assert [what for number, what in wire.events if number == 1] == [b"first", b"second"]
    await wire.finish()


async def test_opened_packet() -> None:
    """A packet that was opened and waits for asyncssh is opened again elsewhere."""
    wire = await opened()
    server = cast("Any", wire.server)
    frame = wire.client.frame(padded(data(0, b"hello")))
    packet = server._opener.open(frame[:4], frame[4:])
    assert packet
    server._opened = packet, frame
    state, unread = take_out(wire)
    assert unread == frame
    put_in(wire, state, unread)
    await wire.settle()
    assert (1, b"hello") in wire.events
    await wire.finish()


async def test_keepalive_under_way() -> None:
    """The answer to a keepalive from before the move is taken, and counts as a sign of life."""
    wire = await opened()
    server = cast("Any", wire.server)
    server._keepalive_timer_callback()
    await wire.settle()
    assert len(wire.client.of_kind(MSG_GLOBAL_REQUEST)) == 1
    state, unread = take_out(wire)
    assert (state.unanswered, state.missed_keepalives) == (1, 1)
    put_in(wire, state, unread)
    wire.client.send(Byte(MSG_REQUEST_FAILURE))
    await wire.settle()
    assert not wire.lost
    assert cast("Any", wire.server)._keepalive_count == 0
    await wire.finish()


async def test_socket_stays() -> None:
    """Once its connection has let go of it TCP is as before: no FIN, no RST, and it still sends."""
    loop = asyncio.get_running_loop()
    wire = Wire()
    connection = cast("LaneConnection", wire.server)
    with socket.create_server((HOST, 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with client:
        client.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(lambda: connection, accepted)
        assert (await loop.sock_recv(client, 100)).startswith(b"SSH-2.0-")
        number = transport.get_extra_info("socket").fileno()
        with detach(connection) as kept:
            async with asyncio.timeout(DEADLINE):
                while _is_descriptor(number):  # noqa: ASYNC110 - it is closed some turns later
                    await asyncio.sleep(0)
            assert connection.is_closed()
            assert _tcp_state(client) == ESTABLISHED
            with pytest.raises(BlockingIOError):
                client.recv(1)
            kept.sendall(b"still here")
            assert await loop.sock_recv(client, 100) == b"still here"
        assert await loop.sock_recv(client, 100) == b""


def _is_descriptor(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _tcp_state(client: socket.socket) -> int:
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
