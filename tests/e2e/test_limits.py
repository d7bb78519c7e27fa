"""What a client may have is limited, and whoever has more than that is told and counted.

All clients are real ones, apart from those that misbehave in ways that no real one would.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from . import clients
from .payloads import MIB, noise
from .processes import HELD, wait_until
from .server import Status
from .strangers import (
    ACCOMPLICE,
    MALLORY,
    Raw,
    Rude,
    greeted,
    hung_up,
    refusals,
    whoami,
)

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import StartServer
    from .server import Server

pytestmark = pytest.mark.e2e

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
    server = start_server(idle_timeout="2s")
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
