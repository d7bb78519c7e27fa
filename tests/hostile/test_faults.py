"""Faults: killed processes, no descriptors, a full disk, a locked database.  Streams go on."""

from __future__ import annotations

import contextlib
import resource
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.e2e.payloads import MIB, noise, sha256
from tests.e2e.processes import HELD, Pace, statuses, wait_until
from tests.e2e.server import Status

from .ciphers import LANE
from .peer import Peer
from .scene import count_descriptors
from .transport import CutOffError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.processes import Process

    from .conftest import SetScene
    from .scene import Scene

pytestmark = pytest.mark.hostile

SLOWLY = Pace(piece=4096, pause=0.02)
"""Keeps some MiB moving for a minute, or until the test has their reader hurry."""

LOG_LINES = 200
"""More than a fault may write: each stranger that is turned away, and no loop."""


@contextlib.contextmanager
def limit(pid: int, kind: int, most: int) -> Iterator[None]:
    """Have a running process meet a limit of the system's, for as long as the block takes."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


def moving_stream(scene: Scene, data: bytes) -> tuple[Process, Process]:
    """A writer and a slow reader of it, in the middle of `data`."""
    reader = scene.server.ssh("alice", "sub moving", pace=SLOWLY)
    scene.server.wait_sessions(subscribe=2)
    writer = scene.server.ssh("alice", "pub moving", stdin=data)
    reader.wait_stdout(64 * 1024)
    return writer, reader


def test_stopped_reader_holds_up_only_its_own_topic(scene: Scene) -> None:
    """A client that is stopped (SIGSTOP) stalls its writer and nobody else, and goes on after."""
    data = noise(8 * MIB)
    with scene.attack():
        writer, reader = moving_stream(scene, data)
        reader.send_signal(signal.SIGSTOP)
        scene.server.wait_metric("pipe_clogged_subscribers", 1)
        scene.innocent.go_on()
        reader.send_signal(signal.SIGCONT)
        reader.stdout.hurry()
        assert statuses(writer, reader) == [Status.OK] * 2

    assert sha256(reader.stdout.data) == sha256(data)


def test_no_descriptors_left(set_scene: SetScene) -> None:
    """Without a descriptor for new connections the old ones go on, and new ones come in later."""
    scene = set_scene(login_timeout="10m")
    server = scene.server
    data = noise(8 * MIB)
    with scene.attack(descriptors=64):
        writer, reader = moving_stream(scene, data)
        most = count_descriptors(server.pid) + 10
        with limit(server.pid, resource.RLIMIT_NOFILE, most):
            strangers = []
            for _ in range(40):
                strangers.append(Peer(scene.target(), suite=LANE))
                strangers[-1].socket.settimeout(0.2)
            let_in = 0
            for stranger in strangers:
                with contextlib.suppress(CutOffError, TimeoutError, OSError):
                    stranger.exchange_versions()
                    let_in += 1
            assert let_in <= 10
            scene.innocent.go_on()
            reader.stdout.hurry()
            assert statuses(writer, reader) == [Status.OK] * 2
            for stranger in strangers:
                stranger.drop()
        wait_until(lambda: server.run("alice", "whoami").wait() == Status.OK, "logins work again")

    assert sha256(reader.stdout.data) == sha256(data)
    assert len(server.log.splitlines()) < LOG_LINES


def test_full_disk(set_scene: SetScene) -> None:
    """With no room for the database live streams go on, known keys log in, new names wait."""
    scene = set_scene()
    server = scene.server
    server.introduce("alice")
    data = noise(8 * MIB)
    with scene.attack():
        writer, reader = moving_stream(scene, data)
        with limit(server.pid, resource.RLIMIT_FSIZE, 1024):
            refused = server.run("newcomer", "whoami")
            assert refused.wait() == Status.NO_CONNECTION
            assert server.run("alice", "whoami").wait() == Status.OK
            assert server.run("alice", "grant moving bob --read").wait() != Status.OK
            reader.stdout.hurry()
            assert statuses(writer, reader) == [Status.OK] * 2
        assert server.run("newcomer", "whoami").wait() == Status.OK

    assert sha256(reader.stdout.data) == sha256(data)


def test_locked_database(set_scene: SetScene) -> None:
    """While another process holds the database locked live streams go on; logins wait or fail."""
    scene = set_scene()
    server = scene.server
    server.introduce("alice")
    data = noise(8 * MIB)
    with scene.attack():
        writer, reader = moving_stream(scene, data)
        with contextlib.closing(sqlite3.connect(server.data_dir / "pipe.db")) as database:
            database.execute("BEGIN EXCLUSIVE")
            latecomer = server.ssh("newcomer", "whoami", stdin=HELD)
            scene.innocent.go_on()
            reader.stdout.hurry()
            assert statuses(writer, reader) == [Status.OK] * 2
            latecomer.wait()
            database.rollback()
        assert server.run("newcomer", "whoami").wait() == Status.OK

    assert sha256(reader.stdout.data) == sha256(data)
