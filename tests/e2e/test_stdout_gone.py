"""A reader whose stdout is gone has left: `ssh HOST sub -k log | head -n 1` with the real `ssh`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from . import clients
from .processes import HELD, Input, Process, statuses, wait_until
from .server import Server, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.data_path]


def into_head(
    server: Server, command: str, *, stdin: Input = None, options: Sequence[str] = ()
) -> Process:
    """Start `ssh HOST COMMAND | head -n 1` in bash, whose status is that of the `ssh`."""
    key = server.keys.openssh("alice")
    ssh = shlex.join(clients.openssh(server.port, key, "alice", command, options))
    return server.adopt(
        Process(
            ["bash", "-c", f"{ssh} | head -n 1; exit ${{PIPESTATUS[0]}}"],
            stdin=stdin,
            environment=clients.bare_environment(),
        )
    )


def write_until_it_ends(writer: Process, reader: Process) -> None:
    """Write line after line: `ssh` learns that its stdout is gone when it writes there."""

    def ended() -> bool:
        writer.write(b"line\n")
        return not reader.running

    wait_until(ended, "the reader ends")


@pytest.mark.parametrize("command", ["sub -k log", "sub -k 'l*'", "pipe -c log"])
def test_reader_before_a_head_ends(server: Server, command: str) -> None:
    """It has the status of SIGPIPE, though it would have stayed and its own stdin is open."""
    reader = into_head(server, command, stdin=HELD)
    server.wait_sessions(**{"pipe" if "pipe" in command else "subscribe": 1})
    writer = server.ssh("alice", "pub -b=false log", stdin=HELD)
    write_until_it_ends(writer, reader)

    assert reader.wait() == Status.BROKEN_PIPE
    assert reader.output == "line\n"
    assert reader.text == ""
    writer.close_stdin()
    assert writer.wait() == Status.BROKEN  # nobody has everything
    assert "to 1 subscriber, 1 of them left early" in writer.text


def test_publisher_waits_for_the_next(server: Server) -> None:
    """One whose only reader goes this way says so, and gives the rest to another."""
    reader = into_head(server, "sub log")
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub log", stdin=HELD)
    write_until_it_ends(writer, reader)
    server.wait_waiting()
    next_one = server.ssh("alice", "sub log")
    writer.write(b"last\n")
    writer.close_stdin()

    assert statuses(writer, next_one) == [Status.OK] * 2
    assert next_one.output.endswith("last\n")
    assert "to 2 subscribers, 1 of them left early" in writer.text


def test_the_others_go_on(server: Server) -> None:
    """A reader beside it gets every byte."""
    [other] = server.subscribe("alice", "sub log")
    reader = into_head(server, "sub log")
    server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub log", stdin=HELD)
    write_until_it_ends(writer, reader)
    writer.write(b"last\n")
    writer.close_stdin()

    assert statuses(writer, other) == [Status.OK] * 2
    assert set(other.output.splitlines()) == {"line", "last"}
    assert "to 2 subscribers, 1 of them left early" in writer.text


def test_sessions_that_share_a_connection(server: Server, tmp_path: Path) -> None:
    """With `ControlMaster` one session's `head` ends that session alone; new ones may still come.

    The master asks for no end to sessions: only a client that shares nothing does.
    """
    path = ("-o", f"ControlPath={tmp_path / 'master'}")
    master = server.ssh("alice", "sub -k log", options=("-o", "ControlMaster=yes", *path))
    server.wait_sessions(subscribe=1)
    reader = into_head(server, "sub -k log", options=path)
    server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub log", stdin=HELD, options=path)
    write_until_it_ends(writer, reader)
    assert reader.wait() == Status.BROKEN_PIPE
    writer.write(b"last\n")
    writer.close_stdin()

    assert writer.wait() == Status.OK
    master.stdout.wait(lambda output: output.data.endswith(b"last\n"))
    assert master.running
    assert server.metrics().value("pipe_connections") == 1


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"])
@pytest.mark.parametrize("held", [False, True], ids=["waiting", "held up"])
def test_publisher_on_a_shared_connection_is_interrupted(
    server: Server, tmp_path: Path, cipher: str, held: bool
) -> None:
    """With `ControlMaster`, Ctrl-C ends a `pub` that is paused at once; the connection goes on."""
    path = ("-o", f"ControlPath={tmp_path / 'master'}")
    master = server.ssh(
        "alice", "sub -k other", options=("-o", "ControlMaster=yes", "-c", cipher, *path)
    )
    server.wait_sessions(subscribe=1)
    if held:
        server.ssh("alice", "sub -k log", reading=False)
        server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub -c log", stdin=HELD, options=path)
    writer.write(bytes(16 << 20))
    if held:
        server.wait_metric("pipe_clogged_subscribers", 1)
    else:
        server.wait_waiting()
    writer.interrupt()

    server.wait_sessions(publish=0)
    assert master.running
    assert server.metrics().value("pipe_connections") == 1 + held
