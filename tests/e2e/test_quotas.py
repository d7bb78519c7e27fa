"""What a user or an address may have is limited, and who wants more is told and counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from .payloads import MIB, noise, sha256
from .processes import statuses, wait_until
from .server import WORKERS, Status
from .strangers import MALLORY, Raw, greeted, refusals, whoami

if TYPE_CHECKING:
    from .conftest import StartServer
    from .processes import Process
    from .server import Server

pytestmark = pytest.mark.e2e


def attempt(server: Server, command: str) -> Process:
    """Start a client of alice's, and return it once it reads or has ended."""
    count = server.metrics().value("pipe_sessions", mode="subscribe")
    client = server.ssh("alice", command, options=("-o", "LogLevel=INFO"))
    wait_until(
        lambda: (
            not client.running or server.metrics().value("pipe_sessions", mode="subscribe") > count
        ),
        "a session, or its end",
    )
    return client


def one_too_many(server: Server, command: str, text: str) -> Process:
    """Return the client that is told so: a worker hears a little later what others have let in."""
    while True:
        count = int(server.metrics().value("pipe_sessions", mode="subscribe"))
        client = attempt(server, command)
        if not client.running and client.wait() and text in client.text:
            return client
        assert WORKERS > 1, client
        client.kill()
        server.wait_sessions(subscribe=count)


def let_in(server: Server, command: str) -> None:
    """Return once a client reads: a worker hears a little later what others have given back."""
    while not attempt(server, command).running:
        assert WORKERS > 1, f"no room for {command}"


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
    late = one_too_many(server, "whoami", "too many sessions of this user: at most 2 at once")

    assert late.wait() == Status.NO_CONNECTION
    readers[0].kill()
    server.wait_sessions(subscribe=1)
    let_in(server, "sub news")


def test_topics_of_a_user(start_server: StartServer) -> None:
    """A topic counts for who opened it, as long as somebody is on it; to join one is free."""
    server = start_server(max_topics_per_user=1)
    [reader] = server.subscribe("alice", "sub one")
    late = one_too_many(server, "sub two", "too many topics of this user: at most 1 at once")

    assert late.wait() == Status.TIMEOUT
    assert refusals(server, "topics") == 1
    assert server.ssh("alice", "pub one", stdin=b"x").wait() == Status.OK
    assert reader.wait() == Status.OK
    server.wait_metric("pipe_topics", 0)
    let_in(server, "sub two")


def test_patterns_of_a_user(start_server: StartServer) -> None:
    """A reader on a pattern counts while it is there; each has a look at every topic."""
    server = start_server(max_patterns_per_user=1)
    [reader] = server.subscribe("alice", "sub 'a*'")
    late = one_too_many(server, "sub 'b*'", "too many patterns of this user: at most 1 at once")

    assert late.wait() == Status.TIMEOUT
    assert refusals(server, "patterns") == 1
    server.subscribe("bob", "sub 'b*'")
    reader.kill()
    server.wait_sessions(subscribe=1)
    let_in(server, "sub 'b*'")


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
