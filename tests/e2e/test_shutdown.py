"""The end of the server: everybody is told, moving streams may finish, and its status is 0."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from . import clients
from .payloads import MIB, noise, sha256
from .processes import DEADLINE, HELD, Pace, Process, statuses
from .server import PIPE, ROOT, Server, Status, free_port, serve_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import StartServer

pytestmark = pytest.mark.e2e

SLOWLY = Pace(piece=4096, pause=0.02)
"""Keeps a stream of some MiB moving for a minute, or until the test has its reader hurry."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_sessions_are_told_and_ended(
    start_server: StartServer, number: signal.Signals
) -> None:
    """Who only waits gets a line and status 69; the server ends with 0."""
    server = start_server(drain="10m")
    writer = server.ssh("alice", "pub nobody-there", stdin=HELD)
    reader = server.ssh("alice", "sub nothing-yet")
    server.wait_sessions(publish=1, subscribe=1)
    server.process.send_signal(number)

    assert statuses(writer, reader) == [Status.SHUTDOWN] * 2
    for client in (writer, reader):
        assert "shut" in client.lines[-1]
    assert server.process.wait() == Status.OK


def test_stream_that_stands_still_is_told_and_ended(start_server: StartServer) -> None:
    """Who could go on, and does not, has some seconds for it and not all of the drain."""
    server = start_server(program=PIPE, drain="10m")
    member = server.ssh("alice", "pipe alone", stdin=HELD)
    server.wait_sessions(pipe=1)
    server.terminate()

    # A server has no patience with who is slow to read the status.
    assert member.wait() in (Status.SHUTDOWN, Status.NO_CONNECTION)
    assert "shut" in member.text
    assert server.process.wait() == Status.OK


def test_readers_learn_that_it_was_the_server(start_server: StartServer) -> None:
    """A stream that stands still is ended as one: no reader is told that its publisher vanished."""
    server = start_server(program=PIPE, drain="30s")
    writer = server.ssh("alice", "pub quiet", stdin=HELD)
    server.wait_sessions(publish=1)
    reader = server.ssh("alice", "sub quiet")
    writer.write(b"hello")
    reader.wait_stdout(5)
    server.terminate()

    assert statuses(writer, reader) == [Status.SHUTDOWN] * 2
    assert "vanished" not in reader.text


def moving_stream(server: Server, data: bytes) -> tuple[Process, Process]:
    """A writer and a slow reader of it, in the middle of `data`."""
    reader = server.ssh("alice", "sub moving", pace=SLOWLY)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub moving", stdin=data)
    reader.wait_stdout(64 * 1024)
    return writer, reader


@pytest.mark.data_path
def test_moving_stream_finishes(start_server: StartServer) -> None:
    """A stream in full swing is told, and goes on to its last byte before the server ends."""
    server = start_server(drain="10m")
    data = noise(8 * MIB)
    writer, reader = moving_stream(server, data)
    server.terminate()
    reader.wait_stderr("shut")
    assert reader.stdout.size < len(data)
    reader.stdout.hurry()

    assert statuses(writer, reader) == [Status.OK] * 2
    assert sha256(reader.stdout.data) == sha256(data)
    assert f"sent {len(data)} bytes" in writer.text
    assert server.process.wait() == Status.OK


def test_nobody_new_comes_in_while_streams_finish(start_server: StartServer) -> None:
    """A server that is shutting down accepts no connection."""
    server = start_server(drain="10m")
    writer, reader = moving_stream(server, noise(8 * MIB))
    server.terminate()
    reader.wait_stderr("shut")
    late = server.ssh("alice", "whoami")

    assert late.wait() == Status.NO_CONNECTION
    assert late.output == ""
    reader.stdout.hurry()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert server.process.wait() == Status.OK


@pytest.mark.data_path
def test_stream_without_end_is_cut_when_time_is_up(start_server: StartServer) -> None:
    """What still moves after `--drain` ends with 69, and the server with 0.

    Nobody is told, on the way out, to wait for those who are being cut as well.
    """
    server = start_server(drain="1s")
    writer, reader = moving_stream(server, noise(64 * MIB))
    server.terminate()

    assert writer.wait() == Status.SHUTDOWN
    assert "waiting" not in writer.text
    reader.stdout.hurry()
    assert reader.wait() == Status.SHUTDOWN
    assert server.process.wait() == Status.OK


def test_second_signal_ends_at_once(start_server: StartServer) -> None:
    """Who cannot wait for the drain sends the signal again."""
    server = start_server(drain="10m")
    _, reader = moving_stream(server, noise(64 * MIB))
    server.terminate()
    reader.wait_stderr("shut")
    assert server.running
    server.terminate()

    reader.stdout.hurry()
    server.process.wait()
    assert reader.wait() != Status.OK


@pytest.fixture
def _hangup_counts() -> Iterator[None]:
    """Let the servers have SIGHUP's own meaning, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.one_worker  # with several it replaces them: see test_workers.py
@pytest.mark.usefixtures("_hangup_counts")
def test_hangup_is_no_end(start_server: StartServer) -> None:
    """A service that gets SIGHUP says that it changes nothing, and streams go on."""
    server = start_server()
    [reader] = server.subscribe("alice", "sub feed")
    writer = server.ssh("alice", "pub feed", stdin=HELD)
    writer.write(b"before ")
    reader.wait_stdout(7)
    server.process.send_signal(signal.SIGHUP)
    server.process.wait_stderr("SIGHUP changes nothing")
    writer.write(b"after")
    writer.close_stdin()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"before after"


@pytest.mark.usefixtures("_hangup_counts")
def test_closed_terminal_is_an_end(tmp_path: Path) -> None:
    """Started by hand, it ends in good order with its terminal."""
    ours, its = pty.openpty()
    words = serve_command(port=free_port(), metrics_port=0, data_dir=tmp_path)
    server = subprocess.Popen(
        words, stderr=its, stdin=its, cwd=ROOT, env=clients.bare_environment()
    )
    os.close(its)
    try:
        seen = b""
        while b"Try it" not in seen:
            seen += os.read(ours, 4096)
        server.send_signal(signal.SIGHUP)
        while b"stopped" not in seen:
            seen += os.read(ours, 4096)
        assert server.wait(DEADLINE) == Status.OK
    finally:
        server.kill()
        server.wait()
        os.close(ours)


def test_restart_keeps_keys_and_accounts(start_server: StartServer) -> None:
    """Host key, users and grants outlive the process; the files are the owner's alone."""
    server = start_server()
    server.introduce("alice", "bob")
    assert server.run("alice", "grant kept bob --read").wait() == Status.OK
    memory = ("-o", f"UserKnownHostsFile={server.data_dir.parent}/known")
    assert server.ssh("alice", "whoami", options=memory).wait() == Status.OK
    assert server.stop() == Status.OK
    server.restart()

    strict = ("-o", "StrictHostKeyChecking=yes", *memory)
    assert server.ssh("alice", "whoami", options=strict).wait() == Status.OK
    assert server.ssh("alice", "whoami", key_of="carol").wait() == Status.NO_CONNECTION
    assert "kept" in server.run("alice", "grants").output
    assert server.data_dir.stat().st_mode & 0o777 == 0o700
    with closing(sqlite3.connect(server.data_dir / "pipe.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_killed_server_starts_again(start_server: StartServer) -> None:
    """A server that was killed in mid-stream starts on the same data as if nothing had been."""
    server = start_server()
    _, reader = moving_stream(server, noise(16 * MIB))
    server.process.kill()
    reader.stdout.hurry()
    assert reader.wait() == Status.NO_CONNECTION
    server.restart()

    [reader] = server.subscribe("alice", "sub again")
    writer = server.ssh("alice", "pub again", stdin=b"back")
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"back"


@pytest.mark.data_path
def test_server_that_ends_cuts_even_who_does_not_read(start_server: StartServer) -> None:
    """A reader that has stopped reading cannot keep the server from ending after the drain."""
    server = start_server(program=PIPE, drain="1s")
    reader = server.ssh("alice", "sub stuck", reading=False, keep=False)
    server.wait_sessions(subscribe=1)
    server.ssh("alice", "pub stuck", stdin=noise(16 * MIB))
    server.wait_metric("pipe_clogged_subscribers", 1)
    server.terminate()

    assert server.process.wait() == Status.OK
    assert reader.wait() in (Status.SHUTDOWN, Status.NO_CONNECTION)
