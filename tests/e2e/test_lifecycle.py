"""How sessions come and go: interrupts, shared connections, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from .clients import HOST
from .payloads import MIB, noise, sha256
from .processes import HELD, statuses, wait_until
from .server import Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer

pytestmark = pytest.mark.e2e


def test_interrupted_waiting_publisher_is_gone(server: Server) -> None:
    """Ctrl-C at a writer that waits ends it, and its topic with it."""
    writer = server.ssh("alice", "pub quiet", stdin=HELD)
    server.wait_waiting()
    writer.interrupt()

    assert writer.wait() != Status.OK
    server.wait_sessions(publish=0)
    server.wait_metric("pipe_topics", 0)


@pytest.mark.data_path
def test_interrupted_publisher_breaks_the_stream(server: Server) -> None:
    """Ctrl-C in mid-stream is no end of file: the readers exit 74."""
    readers = server.subscribe("alice", "sub cut", count=2)
    writer = server.ssh("alice", "pub cut", stdin=HELD)
    writer.write(b"half a sen")
    for reader in readers:
        reader.wait_stdout(10)
    writer.interrupt()

    assert statuses(*readers) == [Status.BROKEN] * 2
    assert [reader.stdout.data for reader in readers] == [b"half a sen"] * 2


@pytest.mark.data_path
def test_interrupted_subscriber_leaves_the_others_reading(server: Server) -> None:
    """Ctrl-C at one reader is nothing to the writer and the other reader."""
    leaver, stayer = server.subscribe("alice", "sub pair", count=2)
    writer = server.ssh("alice", "pub pair", stdin=HELD)
    writer.write(b"one ")
    leaver.wait_stdout(4)
    leaver.interrupt()
    leaver.wait()
    server.wait_sessions(subscribe=1)
    writer.write(b"two")
    writer.close_stdin()

    assert statuses(writer, stayer) == [Status.OK] * 2
    assert stayer.stdout.data == b"one two"
    assert leaver.stdout.data == b"one "


def test_publisher_waits_when_its_last_reader_is_interrupted(server: Server) -> None:
    """A writer that has lost its last reader waits for the next, which gets the rest."""
    [first] = server.subscribe("alice", "sub relay")
    writer = server.ssh("alice", "pub relay", stdin=HELD)
    writer.write(b"for the first")
    first.wait_stdout(13)
    first.interrupt()
    server.wait_sessions(subscribe=0)
    server.wait_waiting()
    writer.write(b"for the second")
    writer.close_stdin()
    second = server.ssh("alice", "sub relay")

    assert statuses(writer, second) == [Status.OK] * 2
    assert second.stdout.data == b"for the second"


@pytest.mark.data_path
def test_sessions_of_one_connection_are_independent(server: Server) -> None:
    """Writers and readers over one shared OpenSSH connection work, end and fail each by itself."""
    data = noise(3 * MIB)
    with tempfile.TemporaryDirectory() as directory:
        shared = ("-o", f"ControlPath={directory}/socket")
        master = server.ssh("alice", "", options=(*shared, "-M", "-N"))
        wait_until(Path(directory, "socket").exists, "the shared connection's socket")
        readers = [server.ssh("alice", "sub one", options=shared) for _ in range(2)]
        server.wait_sessions(subscribe=2)
        bad = server.ssh("alice", "sub //", options=shared)
        writer = server.ssh("alice", "pub one", stdin=data, options=shared)

        assert statuses(writer, *readers) == [Status.OK] * 3
        assert bad.wait() == Status.USAGE
        assert server.metrics().value("pipe_connections") == 1
        assert [sha256(reader.stdout.data) for reader in readers] == [sha256(data)] * 2

        survivor = server.ssh("alice", "sub two", options=shared)
        server.wait_sessions(subscribe=1)
        quitter = server.ssh("alice", "pub -t 100ms three", options=shared)
        assert quitter.wait() == Status.TIMEOUT
        assert survivor.running
        assert master.running
        master.kill()
        assert survivor.wait() == Status.NO_CONNECTION


@pytest.mark.data_path
def test_stalled_session_does_not_hold_its_neighbours(server: Server) -> None:
    """A reader that stalls on a shared connection stops its own stream and no other."""
    flood, data = noise(16 * MIB, seed=1), noise(MIB, seed=2)
    with tempfile.TemporaryDirectory() as directory:
        shared = ("-o", f"ControlPath={directory}/socket")
        server.ssh("alice", "", options=(*shared, "-M", "-N"))
        wait_until(Path(directory, "socket").exists, "the shared connection's socket")
        stalled = server.ssh("alice", "sub flood", options=shared, reading=False)
        reader = server.ssh("alice", "sub calm", options=shared)
        server.wait_sessions(subscribe=2)
        flooder = server.ssh("alice", "pub flood", stdin=flood)
        server.wait_metric("pipe_clogged_subscribers", 1)
        writer = server.ssh("alice", "pub calm", stdin=data)

        assert statuses(writer, reader) == [Status.OK] * 2
        assert reader.stdout.data == data
        assert flooder.running
        stalled.stdout.start_reading()
        assert statuses(flooder, stalled) == [Status.OK] * 2
        assert sha256(stalled.stdout.data) == sha256(flood)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_everybody_is_let_in(start_server: StartServer) -> None:
    """`--host ::` is for clients of both families, and each has its own address."""
    server = start_server(host="::")
    for place in ("127.0.0.1", "::1"):
        client = server.ssh("alice", "whoami --json", options=("-o", f"HostName={place}"))
        assert client.wait() == Status.OK, client.text
        assert json.loads(client.output)["address"].startswith(place)


def test_invitation(start_server: StartServer) -> None:
    """Who starts a server by hand is told what to do next, also where nobody can sign up."""
    server = start_server(log_format="console", signup="closed", public_host="pipe.example.org")
    server.process.wait_stderr("Add users with")
    assert f"ssh -p {server.port} alice@pipe.example.org sub greetings" in server.log
    assert f"pipe user add NAME --key FILE.pub --data-dir {server.data_dir}" in server.log


TOPICS_AT_ONCE = 5
"""Sessions that one connection has open together: half of what it may."""


async def visit_topics(server: Server, first: int, last: int) -> None:
    """Create and leave the topics with these numbers, over one connection."""
    numbers = iter(range(first, last))
    async with asyncssh.connect(
        HOST,
        server.port,
        username="alice",
        client_keys=[str(server.keys.openssh("alice"))],
        agent_path=None,
        known_hosts=None,
        config=None,
    ) as connection:

        async def visit() -> None:
            for number in numbers:
                done = await connection.run(
                    f"pub -b=false -c topic{number}", stdin=asyncssh.DEVNULL
                )
                assert done.exit_status == Status.OK, done.stderr

        await asyncio.gather(*(visit() for _ in range(TOPICS_AT_ONCE)))


@pytest.mark.parametrize(
    ("first", "more"), [(1_000, 4_000), pytest.param(2_000, 8_000, marks=pytest.mark.slow)]
)
def test_topics_leave_no_memory_behind(start_server: StartServer, first: int, more: int) -> None:
    """Thousands of topics that were created and left leave less than 2 KiB each."""
    server = start_server()
    asyncio.run(visit_topics(server, 0, first))
    warm = server.rss_bytes()
    asyncio.run(visit_topics(server, first, first + more))

    assert server.rss_bytes() - warm < 8 * MIB
    server.wait_empty()
