"""What the one is told that looks after the server, as systemd does."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING

import psutil
import pytest
import structlog

from pipe.supervisor import Supervisor

from .e2e.clients import bare_environment
from .e2e.processes import DEADLINE, Process
from .e2e.server import ROOT, Status, free_port, serve_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """Where messages arrive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(DEADLINE)
        listener.bind(str(tmp_path / "notify"))
        yield listener


def found(address: str, **variables: str) -> Supervisor:
    """The one that the environment tells of."""
    return Supervisor.take_from({"NOTIFY_SOCKET": address, **variables})


def test_told(ear: socket.socket) -> None:
    """Each step is a message of its own, as sd_notify(3) has it."""
    supervisor = found(ear.getsockname())
    supervisor.ready()
    assert ear.recv(100) == b"READY=1"
    supervisor.reloading()
    reloading, clock = ear.recv(100).split(b"\n")
    assert (reloading, clock.split(b"=")[0]) == (b"RELOADING=1", b"MONOTONIC_USEC")
    assert clock.split(b"=")[1].isdigit()
    supervisor.stopping()
    assert ear.recv(100) == b"STOPPING=1"


def test_name_that_is_no_file() -> None:
    """An address may be in the abstract name space of Linux, written with an ``@``."""
    name = f"pipe-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(f"\0{name}")
        ear.settimeout(DEADLINE)
        found(f"@{name}").ready()
        assert ear.recv(100) == b"READY=1"


def test_children_do_not_inherit_it() -> None:
    """Other processes shall not speak for this one."""
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "HOME": "/"}
    Supervisor.take_from(environment)
    assert environment == {"HOME": "/"}


async def test_nobody_wants_to_know() -> None:
    """Nothing is sent, and nothing beats."""
    nobody = Supervisor.take_from({"WATCHDOG_USEC": "1000"})
    with structlog.testing.capture_logs() as lines:
        nobody.ready()
        await nobody.beat()
    assert lines == []


def test_it_is_gone(tmp_path: Path) -> None:
    """One that cannot be told costs a line of the log."""
    with structlog.testing.capture_logs() as lines:
        found(str(tmp_path / "nobody")).ready()
    [line] = lines
    assert (line["event"], line["what"]) == ("supervisor not told", "READY=1")
    assert line["reason"] == "No such file or directory"


async def test_beats(ear: socket.socket) -> None:
    """It hears that the loop turns, at least twice in the time that it has patience for."""
    ear.setblocking(False)
    loop = asyncio.get_running_loop()
    beating = loop.create_task(found(ear.getsockname(), WATCHDOG_USEC="2000").beat())
    async with asyncio.timeout(DEADLINE):
        for _ in range(3):
            assert await loop.sock_recv(ear, 100) == b"WATCHDOG=1"
    beating.cancel()


@pytest.mark.parametrize(
    "variables",
    [{}, {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}],
    ids=["none", "of another process", "no number"],
)
async def test_no_beats(ear: socket.socket, variables: dict[str, str]) -> None:
    """Who has not asked for beats, or has asked another process, gets none."""
    await found(ear.getsockname(), **variables).beat()
    ear.setblocking(False)
    with pytest.raises(BlockingIOError):
        ear.recv(100)


@pytest.mark.e2e
@pytest.mark.parametrize("workers", [1, 2])
def test_server_tells(ear: socket.socket, tmp_path: Path, workers: int) -> None:
    """A server is ready once it accepts, replaces workers if asked to, and says that it stops.

    All of it comes from the one process that was started: its workers know of nobody.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have it ignored
    port = free_port()
    server = Process(
        serve_command(port=port, web_port=0, metrics_port=0, data_dir=tmp_path, workers=workers),
        environment={
            **bare_environment(),
            "NOTIFY_SOCKET": str(ear.getsockname()),
            "WATCHDOG_USEC": str(int(4 * DEADLINE * 1e6)),  # the first beat only
        },
        directory=ROOT,
    )
    signal.signal(signal.SIGHUP, before)
    try:
        assert {ear.recv(100), ear.recv(100)} == {b"READY=1", b"WATCHDOG=1"}
        socket.create_connection(("127.0.0.1", port), DEADLINE).close()
        if workers > 1:
            children = psutil.Process(server.pid).children()
            assert len(children) == workers
            assert not any("NOTIFY_SOCKET" in child.environ() for child in children)
            server.send_signal(signal.SIGHUP)
            assert ear.recv(100).startswith(b"RELOADING=1\n")
            assert ear.recv(100) == b"READY=1"
        server.send_signal(signal.SIGTERM)
        assert ear.recv(100) == b"STOPPING=1"
        assert server.wait() == Status.OK
    finally:
        server.kill()
