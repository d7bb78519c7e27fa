"""What a client may have is limited, and whoever has more than that is told and counted.

All clients are real ones, apart from those that misbehave in ways that no real one would.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest
from asyncssh.constants import MSG_GLOBAL_REQUEST
from asyncssh.packet import Boolean, String

from . import clients
from . import server as server_module
from .payloads import MIB, noise, sha256
from .processes import DEADLINE, HELD, statuses, wait_until
from .server import WORKERS, Server, Status, serve_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import StartServer

pytestmark = pytest.mark.e2e

MALLORY = "127.0.0.2"
INNOCENT = "127.0.0.3"
ACCOMPLICE = "127.0.0.4"


class Raw:
    """Plain TCP connections to a server, closed with the test."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()

    def connect(self, server: Server, source: str) -> socket.socket:
        """One more, from this address."""
        return self._open.enter_context(
            socket.create_connection((clients.HOST, server.port), DEADLINE, (source, 0))
        )

    def close(self) -> None:
        """Close them all."""
        self._open.close()


@pytest.fixture
def raw() -> Iterator[Raw]:
    """Connections that speak no SSH."""
    raw = Raw()
    yield raw
    raw.close()


def greeted(connection: socket.socket) -> bool:
    """Whether the server has said anything before it hung up."""
    try:
        return connection.recv(4) == b"SSH-"
    except ConnectionError:
        return False


def hung_up(connection: socket.socket) -> bool:
    """Whether the server closes within the socket's timeout."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def whoami(server: Server, source: str = INNOCENT, *, key_of: str = "alice") -> int:
    """Log in as alice from an address, with her key or not, and return the exit status."""
    return server.ssh("alice", "whoami", options=("-b", source), key_of=key_of).wait()


def refusals(server: Server, reason: str) -> float:
    """How often the server has turned somebody away for this reason."""
    return server.metrics().value("pipe_refused_total", reason=reason)


# Before the login


def test_one_address_has_ten_places_before_the_login(start_server: StartServer, raw: Raw) -> None:
    """The eleventh gets no byte, other addresses are none the worse, a place left is free again."""
    server = start_server(trusted_sources="none", login_timeout="10m")
    first = [raw.connect(server, MALLORY) for _ in range(10)]
    assert all(map(greeted, first))
    assert not any(greeted(raw.connect(server, MALLORY)) for _ in range(5))

    assert refusals(server, "unauthenticated-address") == 5
    assert server.metrics().value("pipe_unauthenticated_connections") == 10
    assert whoami(server) == Status.OK
    first[0].close()
    server.wait_metric("pipe_unauthenticated_connections", 9)
    assert greeted(raw.connect(server, MALLORY))
    assert server.wait_lines("connection refused")[0]["address"] == MALLORY


def test_flood_from_one_address_keeps_nobody_out(start_server: StartServer) -> None:
    """While one address opens connections as fast as it can, another one logs in."""
    server = start_server(trusted_sources="none")
    server.introduce("alice")
    over, count = threading.Event(), 0

    def flood() -> None:
        nonlocal count
        open_now: list[socket.socket] = []
        while not over.is_set():
            with contextlib.suppress(OSError):
                open_now.append(
                    socket.create_connection((clients.HOST, server.port), 5, (MALLORY, 0))
                )
                count += 1
            if len(open_now) > 50:
                open_now.pop(0).close()
            time.sleep(0.001)
        for connection in open_now:
            connection.close()

    attacker = threading.Thread(target=flood)
    attacker.start()
    try:
        wait_until(lambda: count > 200, "a flood")
        assert whoami(server) == Status.OK
    finally:
        over.set()
        attacker.join()
    assert refusals(server, "unauthenticated-address") + refusals(server, "penalty") > 100


def test_crowd_makes_way_for_who_has_nothing(start_server: StartServer, raw: Raw) -> None:
    """With all places taken, the source that has most gives one up, and is not charged for it."""
    server = start_server(
        trusted_sources="none",
        login_timeout="10m",
        max_unauthenticated=12,
        max_unauthenticated_per_address=8,
    )
    crowd = [raw.connect(server, MALLORY) for _ in range(8)]
    few = [raw.connect(server, ACCOMPLICE) for _ in range(4)]
    assert all(map(greeted, crowd + few))

    assert whoami(server) == Status.OK
    assert hung_up(crowd[0])
    server.wait_metric("pipe_disconnects_total", 1, reason="evicted")
    server.wait_metric("pipe_unauthenticated_connections", 11)


def test_one_more_than_all_places(start_server: StartServer, raw: Raw) -> None:
    """Where everybody has one, who comes too late is refused."""
    server = start_server(trusted_sources="none", login_timeout="10m", max_unauthenticated=3)
    there = [raw.connect(server, f"127.0.1.{number}") for number in range(1, 4)]
    assert all(map(greeted, there))

    assert not greeted(raw.connect(server, MALLORY))
    assert refusals(server, "unauthenticated") == 1


def test_failed_logins_are_penalised(start_server: StartServer) -> None:
    """An address whose logins fail again and again is refused, and no other."""
    server = start_server(
        trusted_sources="none", penalty_refused="30m", penalty_min="45m", penalty_max="1h"
    )
    server.introduce("alice")
    for _ in range(2):
        assert whoami(server, MALLORY, key_of="bob") == Status.NO_CONNECTION
    assert refusals(server, "penalty") == 0, "below the minimum everything is forgiven"
    assert whoami(server, MALLORY) == Status.NO_CONNECTION

    assert refusals(server, "penalty") == 1
    assert whoami(server) == Status.OK


def test_penalties_come_to_an_end(start_server: StartServer) -> None:
    """However often an address comes meanwhile, it is let in again when its time is over."""
    server = start_server(trusted_sources="none", penalty_refused="3s", penalty_min="1s")
    server.introduce("alice")
    assert whoami(server, MALLORY, key_of="bob") == Status.NO_CONNECTION
    wait_until(lambda: whoami(server, MALLORY) == Status.OK, "the end of the penalty")


def test_this_machine_is_trusted(start_server: StartServer, raw: Raw) -> None:
    """By default the loopback address is exempt from what is counted per address."""
    server = start_server()
    server.introduce("alice")
    assert all(greeted(raw.connect(server, clients.HOST)) for _ in range(30))
    for _ in range(5):
        assert whoami(server, clients.HOST, key_of="bob") == Status.NO_CONNECTION

    assert whoami(server, clients.HOST) == Status.OK


def test_time_to_log_in_ends_while_bytes_dribble(start_server: StartServer, raw: Raw) -> None:
    """A client that sends a byte now and then has no more time than any other."""
    server = start_server(
        trusted_sources="none", login_timeout="1s", penalty_timeout="1h", penalty_max="1h"
    )
    connection = raw.connect(server, MALLORY)
    connection.settimeout(0.05)

    def dribble() -> bool:
        try:
            connection.send(b"S")
            return not connection.recv(1 << 16)
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    wait_until(dribble, "the end of the time to log in")

    server.wait_metric("pipe_disconnects_total", 1, reason="login-timeout")
    assert server.wait_lines("connection without login")[0]["reason"] == "login-timeout"
    assert not greeted(raw.connect(server, MALLORY)), "an hour of penalty"


# A connection


def test_connection_without_a_channel_is_closed(start_server: StartServer, tmp_path: Path) -> None:
    """It has a minute, or what the operator says; unless it is there for tunnels, and says so.

    `ssh -N` says that it opens no session, but not where others may share its connection.
    """
    server = start_server(idle_timeout="500ms")
    tunnel = server.ssh("alice", "", options=("-N",))
    server.wait_metric("pipe_connections", 1)
    client = server.ssh("alice", "", options=("-N", "-M", "-S", str(tmp_path / "c")))

    assert client.wait() == Status.NO_CONNECTION
    server.wait_metric("pipe_disconnects_total", 1, reason="idle")
    assert tunnel.running


def test_client_that_answers_no_more_is_gone(start_server: StartServer) -> None:
    """A stopped client is cut off after its keepalives, and its session's end says so."""
    server = start_server(keepalive_interval="2s", keepalive_count=3)
    [reader] = server.subscribe("alice", "sub news")
    reader.send_signal(signal.SIGSTOP)

    server.wait_sessions(subscribe=0)
    server.wait_metric("pipe_disconnects_total", 1, reason="dead")
    server.wait_metric("pipe_sessions_ended_total", 1, outcome="cut")


def test_each_end_is_told_once(start_server: StartServer) -> None:
    """The line about a connection has user, address, reason and counts."""
    server = start_server()
    [reader] = server.subscribe("alice", "sub news")
    writer = server.ssh("bob", "pub alice/news", stdin=HELD)
    assert writer.wait() == Status.DENIED
    assert server.ssh("alice", "pub news", stdin=noise(1000)).wait() == Status.OK
    assert reader.wait() == Status.OK
    [reader] = server.subscribe("alice", "sub news")
    reader.kill()
    server.wait_metric("pipe_disconnects_total", 1, reason="lost")

    told = server.wait_lines("connection ended", 3, user="alice")
    assert sorted(line["reason"] for line in told) == ["client", "client", "lost"]
    assert all(line["address"].startswith(clients.HOST) for line in told)
    assert [line["sessions"] for line in told] == [1, 1, 1]
    assert sum(line["received"] for line in told) == 1000
    assert sum(line["delivered"] for line in told) == 1000


class Rude:
    """An asyncssh client that stops reading its TCP connection."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __aenter__(self) -> Rude:
        """Log in."""
        self.connection = await asyncssh.connect(
            clients.HOST,
            self._server.port,
            username="alice",
            client_keys=[str(self._server.keys.openssh("alice"))],
            known_hosts=None,
            agent_path=None,
            config=None,
        )
        self._transport: Any = self.connection._transport  # noqa: SLF001
        return self

    async def __aexit__(self, *_: object) -> None:
        """Go."""
        self.connection.abort()
        await self.connection.wait_closed()

    async def subscribe(self, topic: str) -> None:
        """Open a session with a window that never fills."""
        await self.connection.create_session(
            asyncssh.SSHClientSession[bytes], f"sub -k {topic}", encoding=None, window=1 << 30
        )

    def stop_reading(self) -> None:
        """Read nothing more from the network."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def ask(self, count: int) -> None:
        """Send requests that want an answer."""
        for _ in range(count):
            self.connection.send_packet(MSG_GLOBAL_REQUEST, String("no-such"), Boolean(True))


async def fill(server: Server, topic: str, rude: Rude) -> None:
    """Let somebody publish until the reader that does not read is clogged."""
    await rude.subscribe(topic)
    rude.stop_reading()
    server.ssh("alice", f"pub {topic}", stdin=noise(24 * MIB))
    await asyncio.to_thread(server.wait_metric, "pipe_clogged_subscribers", 1)


async def test_who_asks_and_does_not_read_is_cut_off(start_server: StartServer) -> None:
    """A reader that stalls may do so; one that also asks for answers, and reads none, may not."""
    server = start_server(unread_timeout="1s")
    async with Rude(server) as rude:
        await fill(server, "slow", rude)
        await asyncio.sleep(2)  # twice the time that one who asks would have
        assert server.metrics().value("pipe_sessions", mode="subscribe") == 1
        rude.ask(1000)
        await asyncio.to_thread(server.wait_sessions, subscribe=0)

    server.wait_metric("pipe_disconnects_total", 1, reason="unread")
    server.wait_metric("pipe_sessions_ended_total", 1, outcome="cut")


async def test_answers_that_pile_up_cut_off(start_server: StartServer) -> None:
    """Answers that nobody reads have a bound in bytes, however fast they are asked for."""
    server = start_server(max_unsent="2MiB", unread_timeout="10m")
    async with Rude(server) as rude:
        await fill(server, "slow", rude)
        for _ in range(200):
            rude.ask(1000)
            await asyncio.sleep(0.01)
            if rude.connection.is_closed():
                break
        await asyncio.to_thread(server.wait_sessions, subscribe=0)

    server.wait_metric("pipe_disconnects_total", 1, reason="overflow")


# A user, an address


def test_connections_of_a_user(start_server: StartServer) -> None:
    """One too many is told so and closed; others and later ones are not concerned."""
    server = start_server(max_connections_per_user=1)
    [reader] = server.subscribe("alice", "sub news")
    late = server.ssh("alice", "whoami")

    assert late.wait() == Status.NO_CONNECTION
    assert "too many connections of this user" in late.text
    assert refusals(server, "connections") == 1
    server.wait_metric("pipe_disconnects_total", 1, reason="quota")
    assert server.run("bob", "whoami").wait() == Status.OK
    reader.interrupt()
    reader.wait()
    wait_until(lambda: server.run("alice", "whoami").wait() == Status.OK, "room for another")


def test_connections_from_an_address(start_server: StartServer, raw: Raw) -> None:
    """They count whether they have logged in or not."""
    server = start_server(
        trusted_sources="none", login_timeout="10m", max_connections_per_address=3
    )
    assert all(greeted(raw.connect(server, MALLORY)) for _ in range(3))

    assert not greeted(raw.connect(server, MALLORY))
    assert refusals(server, "connections") == 1
    assert whoami(server) == Status.OK


def test_sessions_of_a_user(start_server: StartServer) -> None:
    """The channel is refused, with a reason."""
    server = start_server(max_sessions_per_user=2)
    readers = server.subscribe("alice", "sub news", count=2)
    late = server.ssh("alice", "whoami", options=("-o", "LogLevel=INFO"))

    assert late.wait() == Status.NO_CONNECTION
    assert "too many sessions of this user: at most 2 at once" in late.text
    readers[0].kill()
    server.wait_sessions(subscribe=1)
    assert server.run("alice", "whoami").wait() == Status.OK


def test_topics_of_a_user(start_server: StartServer) -> None:
    """A topic counts for who opened it, as long as somebody is on it; to join one is free."""
    server = start_server(max_topics_per_user=1)
    [reader] = server.subscribe("alice", "sub one")
    late = server.ssh("alice", "sub two")

    assert late.wait() == Status.TIMEOUT
    assert "too many topics of this user: at most 1 at once" in late.text
    assert refusals(server, "topics") == 1
    assert server.ssh("alice", "pub one", stdin=b"x").wait() == Status.OK
    assert reader.wait() == Status.OK
    server.wait_metric("pipe_topics", 0)
    server.subscribe("alice", "sub two")


def test_patterns_of_a_user(start_server: StartServer) -> None:
    """A reader on a pattern counts while it is there; each has a look at every topic."""
    server = start_server(max_patterns_per_user=1)
    [reader] = server.subscribe("alice", "sub 'a*'")
    late = server.ssh("alice", "sub 'b*'")

    assert late.wait() == Status.TIMEOUT
    assert "too many patterns of this user: at most 1 at once" in late.text
    assert refusals(server, "patterns") == 1
    server.subscribe("bob", "sub 'b*'")
    reader.kill()
    server.wait_sessions(subscribe=1)
    server.subscribe("alice", "sub 'b*'")


def test_rate_of_a_user(start_server: StartServer) -> None:
    """A fast writer is slowed, all its sessions together, and loses nothing."""
    server = start_server(max_rate_per_user="1MiB")
    server.introduce("alice", "bob")
    data = noise(2 * MIB)
    readers = server.subscribe("alice", "sub one") + server.subscribe("alice", "sub two")
    began = time.monotonic()
    writers = [
        server.ssh("alice", f"pub {topic}", stdin=data, keep=False) for topic in ("one", "two")
    ]
    assert statuses(*writers, *readers) == [Status.OK] * 4
    # 1 MiB at once, 3 MiB after it, and at each writer's end up to a packet on credit.
    # Each worker in which a user begins to write lets through as much at once.
    assert time.monotonic() - began > 2.5 - (WORKERS - 1)
    assert [reader.stdout.sha256 for reader in readers] == [sha256(data)] * 2


def test_writer_that_hangs_up_while_it_is_slowed(start_server: StartServer) -> None:
    """What it sent before its end of file arrives all the same."""
    server = start_server(max_rate_per_user="128KiB")
    data = noise(300_000)
    [reader] = server.subscribe("alice", "sub one")
    writer = server.ssh("alice", "pub one", stdin=data)
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == data


# The server


@pytest.mark.one_worker  # several count what they share more than once; a relayed byte waits in two
async def test_memory_alarm(start_server: StartServer) -> None:
    """Writers stand while memory is short and readers go on; then all goes on, and all arrives."""
    probe = start_server()
    probe.introduce("alice")
    alarm = probe.rss_bytes() + 20 * MIB
    server = start_server(memory_alarm=alarm)
    async with contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(Rude(server)) for _ in range(24)]
        for number, rude in enumerate(crowd):
            await rude.subscribe(f"crowd{number}")
            rude.stop_reading()
        # Each of these leaves a transport's worth with the server.
        writers = [
            server.ssh("alice", f"pub crowd{number}", stdin=noise(12 * MIB))
            for number in range(len(crowd))
        ]
        await asyncio.to_thread(server.wait_metric, "pipe_memory_alarm", 1)
        [reader] = await asyncio.to_thread(server.subscribe, "alice", "sub -k urgent")
        late = server.ssh("alice", "pub urgent", stdin=b"late")
        await asyncio.to_thread(late.wait_stderr, "subscribe with")
        assert reader.stdout.size == 0
        for rude in crowd:
            rude.go_on()
        await asyncio.to_thread(reader.wait_stdout, 4)
        ends = await asyncio.to_thread(statuses, *writers, late)
    assert ends == [Status.OK] * (len(writers) + 1)
    server.wait_metric("pipe_memory_alarm", 0)
    assert server.wait_lines("memory is short")
    assert server.wait_lines("memory is free again")


def test_log_has_a_rate(start_server: StartServer, raw: Raw) -> None:
    """Lines of one kind are left out when there are too many, and counted."""
    server = start_server(log_rate=1)
    began = time.monotonic()
    for _ in range(100):
        raw.connect(server, clients.HOST).send(b"GET / HTTP/1.1\r\n")
    server.wait_metric("pipe_disconnects_total", 100, reason="protocol")

    assert server.run("alice", "whoami").wait() == Status.OK, "other lines are not concerned"
    assert len(server.wait_lines("session ended")) == 1
    left_out = server.wait_lines("log lines left out")
    written = len(server.lines("connection without login"))
    assert 10 <= written <= 10 + (time.monotonic() - began) + 1
    assert left_out[0]["kind"] == "connection without login"


@pytest.mark.one_worker  # several have as many descriptors each, and the hub keeps none
def test_descriptors_are_kept_in_reserve(
    start_server: StartServer, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients are refused before the last descriptor is taken, and the log says why."""

    def serve_with_few(program: str, /, **settings: str | int | Path) -> list[str]:
        return ["sh", "-c", 'ulimit -n 120; exec "$@"', "sh", *serve_command(program, **settings)]

    monkeypatch.setattr(server_module, "serve_command", serve_with_few)
    server = start_server()
    assert sum(greeted(raw.connect(server, clients.HOST)) for _ in range(80)) == 60

    assert refusals(server, "descriptors") == 20
    assert server.wait_lines("connection refused")[0]["reason"] == "descriptors"
    raw.close()
    server.wait_metric("pipe_unauthenticated_connections", 0)
    assert server.run("alice", "whoami").wait() == Status.OK


@pytest.mark.one_worker  # likewise
def test_no_descriptors_left(start_server: StartServer, raw: Raw) -> None:
    """Should they run out all the same, streams go on, and so does the server afterwards."""
    server = start_server(login_timeout="10m")
    [reader] = server.subscribe("alice", "sub news")
    writer = server.ssh("alice", "pub news", stdin=HELD)
    server.wait_sessions(publish=1)
    most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (40, most[1]))
    for _ in range(80):
        raw.connect(server, clients.HOST)
    assert server.run("alice", "whoami").wait() == Status.NO_CONNECTION
    writer.write(b"news")
    reader.wait_stdout(4)
    raw.close()

    wait_until(lambda: server.run("alice", "whoami").wait() == Status.OK, "a free descriptor")
    writer.close_stdin()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert len(server.log) < 50_000
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, most)
