"""What the log says of each session and connection, with real clients."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from .clients import HOST, bare_environment
from .payloads import KIB, MIB, noise
from .processes import Process, statuses, wait_until
from .server import ROOT, Server, Status, serve_command
from .web import is_listening

if TYPE_CHECKING:
    from pathlib import Path

    from .clients import KeyRing
    from .conftest import StartServer

pytestmark = pytest.mark.e2e

SECRET = "nobodys-business"

CIPHERS = {"fast": "aes128-gcm@openssh.com", "asyncssh": "chacha20-poly1305@openssh.com"}
"""What OpenSSH gets on each data path: on the lane it is steered to the faster one."""


class MuteServer(Server):
    """One that starts on a log that takes nothing, as a file on a full disk."""

    def restart(self) -> None:
        """Start it, and return once it answers: no line can tell that it is ready."""
        command = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", *serve_command(**self._settings)]
        self.process = Process(command, environment=bare_environment(), directory=ROOT)
        try:
            wait_until(self._answers, "it answers")
        except BaseException:
            self.process.kill()
            raise

    def _answers(self) -> bool:
        # A hub tells its own figures before there is a worker that could serve.
        with contextlib.suppress(ConnectionRefusedError):
            return is_listening(self.port) and "pipe_sessions" in self.metrics().names
        return False


def sessions(server: Server, count: int) -> dict[str, dict[str, Any]]:
    """The lines about the ends of sessions by their modes, once there are so many."""
    return {line["mode"]: line for line in server.wait_lines("session ended", count)}


def stream(server: Server, topic: str, *options: str) -> None:
    """One publisher, one subscriber, and 100 KiB."""
    [reader] = server.subscribe("alice", f"sub {topic}")
    data = noise(100 * KIB)
    writer = server.ssh("alice", f"pub {topic}", stdin=data, options=options)
    assert statuses(writer, reader) == [Status.OK] * 2


@pytest.mark.data_path
def test_lines_of_a_stream(start_server: StartServer) -> None:
    """Who, from where, with what, for what and how it ended; and not a word of the topic."""
    server = start_server()
    stream(server, SECRET)
    assert server.run("alice", "ls").wait() == Status.OK
    told = sessions(server, 3)
    connections = server.wait_lines("connection ended", 3)

    for line in (*told.values(), *connections):
        assert line["user"] == "alice"
        assert re.fullmatch(rf"{HOST}:\d+", line["address"])
        assert line["client"].startswith("OpenSSH_")
        assert line["cipher"] == CIPHERS[server.lane]
        assert line["lane"] == server.lane
        assert line["seconds"] >= line["paused_seconds"] + line["waited_seconds"] >= 0
    written, read = told["publish"], told["subscribe"]
    assert [line["outcome"] for line in told.values()] == ["done"] * 3
    assert (written["received"], written["delivered"]) == (100 * KIB, 0)
    assert (read["received"], read["delivered"]) == (0, 100 * KIB)
    assert written["received_chunks"] == read["delivered_chunks"] > 0
    assert told["command"]["command"] == "ls"
    assert sum(line["received"] for line in connections) == 100 * KIB
    assert SECRET not in server.log


@pytest.mark.data_path
def test_log_that_cannot_be_written(tmp_path: Path, keys: KeyRing, lane: str) -> None:
    """With no room for a line the server starts, serves, forgets its clients and stops."""
    server = MuteServer(tmp_path / "data", keys, lane)
    try:
        for _ in range(2):
            stream(server, "quiet")
        server.wait_metric("pipe_connections", 0)
        assert server.stop() == Status.OK
    finally:
        server.stop()


def test_topics_where_they_are_asked_for(start_server: StartServer) -> None:
    """An operator may have topics and patterns in the lines of sessions."""
    server = start_server(log_topics="yes")
    [reader] = server.subscribe("alice", "sub -k alice/films/*")
    stream(server, f"alice/films/{SECRET}")
    reader.kill()
    topics = sorted(line["topic"] for line in server.wait_lines("session ended", 3))
    assert topics == ["alice/films/*", *[f"alice/films/{SECRET}"] * 2]


def test_refused_login(start_server: StartServer) -> None:
    """An operator can tell which key it was that somebody tried, and that nobody has it."""
    server = start_server(signup="closed")
    assert server.run("mallory", "whoami").wait() == Status.NO_CONNECTION
    [line] = server.wait_lines("login refused")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", server.keys.openssh("mallory").with_suffix(".pub")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert (line["user"], line["keys"]) == ("mallory", shown.stdout.split()[1])


def test_waits_are_told(start_server: StartServer) -> None:
    """A publisher that waited for a reader, and then for a slow one, has it in its line."""
    server = start_server()
    writer = server.ssh("alice", "pub film", stdin=noise(24 * MIB))
    server.wait_waiting()
    reader = server.ssh("alice", "sub film", reading=False)
    server.wait_metric("pipe_clogged_subscribers", 1)
    reader.stdout.start_reading()
    assert statuses(writer, reader) == [Status.OK] * 2
    line = sessions(server, 2)["publish"]
    assert line["waited_seconds"] > 0
    assert line["paused_seconds"] > 0


def test_console(start_server: StartServer) -> None:
    """The lines for people have those of the fields that say something."""
    server = start_server(log_format="console")
    stream(server, SECRET, "-c", "chacha20-poly1305@openssh.com")
    server.process.wait_stderr("mode=publish")
    [line] = [line for line in server.log.splitlines() if "mode=publish" in line]
    words = dict(re.findall(r"(\w+)=('[^']*'|\S+)", line))
    assert "session ended" in line
    assert words["user"] == "alice"
    assert words["client"].strip("'").startswith("OpenSSH_")
    assert words["cipher"] == "chacha20-poly1305@openssh.com"
    assert (words["lane"], words["outcome"]) == ("asyncssh", "done")
    assert words["received"] == str(100 * KIB)
    assert "delivered" not in words
    assert SECRET not in server.log


def test_command_that_cannot_be_read(start_server: StartServer) -> None:
    """It is told as what it is, and not as some other command."""
    server = start_server()
    assert server.run("alice", "nonsense").wait() == Status.USAGE
    line = sessions(server, 1)["command"]
    assert line["outcome"] == "usage"
    assert "command" not in line


def test_health_check(start_server: StartServer) -> None:
    """Who only looks whether the port answers leaves no line, and is no failed login."""
    server = start_server()
    for _ in range(3):
        with socket.create_connection((HOST, server.port)) as connection:
            assert connection.recv(8) == b"SSH-2.0-"
    server.wait_metric("pipe_logins_total", 3, result="probe")
    assert server.metrics().value("pipe_logins_total", result="failed") == 0
    assert server.metrics().value("pipe_disconnects_total", reason="probe") == 3
    assert server.run("alice", "whoami").wait() == Status.OK
    sessions(server, 1)
    assert "probe" not in server.log
