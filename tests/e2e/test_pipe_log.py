"""The client package `pipe_log`, over a real `ssh`: what is not counted as dropped arrives."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

import pipe_log
import psutil
import pytest

from . import clients
from .processes import DEADLINE, HELD, Process, wait_until
from .server import LANES, ROOT, Status
from .web import token, url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .clients import KeyRing
    from .conftest import StartServer
    from .server import Server

pytestmark = pytest.mark.e2e

STREAM: Final = "pub -b=false -c --frame line"


class Programs:
    """A folder with an `ssh` that knows this server and a person's key, and waits at a gate.

    Nobody keeps what is published while nobody reads: so the reader comes first, then the gate is
    opened.
    """

    def __init__(self, folder: Path, server: Server, user: str) -> None:
        self._gate = folder / "gate"
        ssh = shutil.which("ssh")
        assert ssh
        words = [ssh, "-F", "none", "-i", str(server.keys.openssh(user))]
        options = (f"Port={server.port}", f"HostName={clients.HOST}", f"User={user}")
        for option in (*options, "IdentitiesOnly=yes", "IdentityAgent=none"):
            words += ["-o", option]
        for option in clients.OPENSSH_OPTIONS:
            words += ["-o", option]
        wait = f"while [ ! -e {shlex.quote(str(self._gate))} ]; do sleep 0.05; done"
        (folder / "ssh").write_text(f'#!/bin/sh\n{wait}\nexec {shlex.join(words)} "$@"\n')
        (folder / "ssh").chmod(0o755)

    def open(self) -> None:
        """Let each `ssh` begin."""
        self._gate.touch()

    def shut(self) -> None:
        """Let each `ssh` wait that has not begun."""
        self._gate.unlink()


class Writer:
    """Logs numbers, a few hundred per second, until it is told to stop."""

    def __init__(self, handler: pipe_log.Handler) -> None:
        self.count = 0
        self._log = logging.Logger("service")  # noqa: LOG001 - which nobody else has
        self._log.addHandler(handler)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while not self._stop.wait(0.005):
            self._log.info("line", extra={"number": self.count, "user": "alice"})
            self.count += 1

    def stop(self) -> None:
        """End, and return once it has ended."""
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def lane() -> str:
    """One is enough: this is about the client."""
    return LANES[0]


@pytest.fixture
def programs(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: KeyRing
) -> Iterator[tuple[Server, Programs]]:
    """A server, and what services find as `ssh`."""
    del keys
    server = start_server(drain="1s")
    server.introduce("alice")
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = Programs(folder, server, "alice")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    yield server, programs
    programs.open()


def numbers(reader: Process) -> list[int]:
    """What whole lines a reader has got."""
    whole = reader.stdout.data.rpartition(b"\n")[0]
    return [json.loads(line)["number"] for line in whole.splitlines()]


def wait_beyond(reader: Process, number: int) -> None:
    """Return once the reader has a line as late as this."""
    wait_until(lambda: max(numbers(reader), default=-1) >= number, f"line {number}")


def kill_ssh() -> None:
    """Kill the `ssh` that carries the lines."""
    [child] = (
        child
        for child in psutil.Process().children()
        if any(STREAM in word for word in child.cmdline())
    )
    child.kill()


def test_all_lines_arrive_over_ssh(programs: tuple[Server, Programs]) -> None:
    """A killed `ssh` and a server that stops twice, once by force, cost no line unnoticed."""
    server, gate = programs
    [reader] = server.subscribe("alice", "sub -k log")
    gate.open()
    handler = pipe_log.Handler("ssh:pipe log")
    writer = Writer(handler)
    arrived: set[int] = set()
    wait_beyond(reader, 20)
    kill_ssh()
    wait_beyond(reader, writer.count)
    for by_force in (False, True):
        gate.shut()
        server.process.send_signal(signal.SIGKILL if by_force else signal.SIGTERM)
        server.process.wait()
        reader.wait()
        arrived.update(numbers(reader))
        server.restart()
        [reader] = server.subscribe("alice", "sub -k log")
        gate.open()
        wait_beyond(reader, writer.count)
    writer.stop()
    handler.close(DEADLINE)
    wait_beyond(reader, writer.count - 1)
    arrived.update(numbers(reader))

    assert handler.dropped == 0
    assert arrived == set(range(writer.count))


def test_lines_arrive_in_order_and_once(programs: tuple[Server, Programs]) -> None:
    """Where nothing breaks, the stream is what was logged; the close waits until it is there."""
    server, gate = programs
    [reader] = server.subscribe("alice", "sub log")
    gate.open()
    handler = pipe_log.Handler("ssh:pipe log", service="web")
    log = logging.Logger("service")  # noqa: LOG001
    log.addHandler(handler)
    for number in range(20_000):
        log.info("line", extra={"number": number})
    handler.close(DEADLINE)

    assert reader.wait() == Status.OK
    assert numbers(reader) == list(range(20_000))
    assert handler.dropped == 0


def test_denied_topic_is_told_once(
    programs: tuple[Server, Programs], capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines for a topic that one may not write are dropped, and stderr has the server's words."""
    server, gate = programs
    server.introduce("bob")
    gate.open()
    handler = pipe_log.Handler("ssh:pipe bob/log")
    log = logging.Logger("service")  # noqa: LOG001
    log.addHandler(handler)
    log.info("lost")
    wait_until(lambda: handler.dropped == 1, "the refusal")
    log.info("lost too")
    wait_until(lambda: handler.dropped == 2, "the second refusal")
    handler.close()

    said = capsys.readouterr().err
    assert said.count("pipe_log:") == 1
    assert "ssh:pipe bob/log refuses lines, which are dropped:" in said
    assert "denied" in said


def test_machine_without_ssh_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without the program nothing is raised, and stderr says what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    handler = pipe_log.Handler("ssh:pipe log")
    handler.emit(logging.makeLogRecord({"levelno": logging.INFO}))
    handler.close(0.2)

    assert "ssh does not start" in capsys.readouterr().err
    assert handler.dropped == 1


SERVICE: Final = """
import logging, sys
import pipe_log, structlog

handler = pipe_log.Handler(sys.argv[1], token=sys.argv[2], service=sys.argv[3])
logger = logging.getLogger("shop")
logger.addHandler(handler)
processors = [pipe_log.Processor(handler), structlog.processors.JSONRenderer()]
events = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), processors=processors)
number = 0
for count in sys.stdin:
    for _ in range(int(count)):
        user = ("alice", "bob")[number % 2]
        if sys.argv[3] == "structlog":
            events.info("line", number=number, user=user)
        else:
            logger.warning("line", extra={"number": number, "user": user})
        number += 1
print(handler.dropped)
"""
"""A service that logs as many lines as it is told, in turn about two users."""


def start_service(server: Server, kind: str, secret: str) -> Process:
    """Start one that uses `logging`, or one that uses structlog."""
    words = [sys.executable, "-c", SERVICE, url(server, ""), secret, kind]
    environment = {**clients.bare_environment(), "PYTHONPATH": str(ROOT / "client")}
    return server.adopt(Process(words, stdin=HELD, environment=environment))


def seen(reader: Process) -> set[tuple[str, int]]:
    """The services' lines that a user has got, each told by its service and number."""
    whole = reader.stdout.data.rpartition(b"\n")[0]
    lines = [json.loads(line) for line in whole.splitlines()]
    return {(line["service"], line["number"]) for line in lines if "number" in line}


def test_lines_reach_their_user_through_restarts(start_server: StartServer) -> None:
    """Lines of `logging` and structlog reach the right user and nobody else, with two restarts."""
    server = start_server(log_drain="ops/log-drain", drain="1s")
    server.introduce("ops", "alice", "bob")
    secret = token(server, "ops", "--logs --write ops/log-drain")
    kinds = ("logging", "structlog")
    services = [start_service(server, kind, secret) for kind in kinds]
    users = ("alice", "bob")
    got: dict[str, set[tuple[str, int]]] = {user: set() for user in users}
    logged = 0
    for stops in (True, True, False):
        readers = {user: server.ssh(user, "logs -n 200") for user in users}
        if not logged:
            logged += 50
            for service in services:
                service.write(b"50\n")
        for index, (user, reader) in enumerate(readers.items()):
            wanted = {(kind, number) for kind in kinds for number in range(index, logged, 2)}
            wait_until(lambda: got[user] | seen(reader) >= wanted, f"{logged} lines of {user}")  # noqa: B023
            got[user] |= seen(reader)
            assert got[user] == wanted
        if stops:
            server.terminate()
            server.process.wait()
            logged += 50
            for service in services:
                service.write(b"50\n")
            server.restart()
    for service in services:
        service.close_stdin()

    assert [service.wait() for service in services] == [0, 0]
    assert [service.output for service in services] == ["0\n", "0\n"]
