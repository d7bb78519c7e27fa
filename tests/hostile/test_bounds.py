"""Bounds in pieces as well as in bytes, and what is no stream: held publishers and scrapes."""

from __future__ import annotations

import contextlib
import itertools
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.payloads import KIB, MIB
from tests.e2e.processes import wait_until

from . import attacks
from .peer import MAX_WINDOW
from .transport import readable

if TYPE_CHECKING:
    from .ciphers import Suite
    from .conftest import SetScene
    from .scene import Scene

pytestmark = pytest.mark.hostile

WINDOW = 128 * KIB

FULL_WINDOWS = 2

SLOW_SCRAPES = 1000


def count_threads(scene: Scene) -> int:
    """How many threads the server has."""
    return sum(1 for _ in Path(f"/proc/{scene.server.pid}/task").iterdir())


@pytest.mark.data_path
def test_one_byte_packets_into_waiting_publishers(set_scene: SetScene, suite: Suite) -> None:
    """Windows full of one-byte packets cost a few times their size, and all bytes arrive."""
    scene = set_scene(window="128KiB")
    with scene.attack(growth=FULL_WINDOWS * WINDOW * 4 + 4 * MIB):
        peer = scene.peer(suite=suite)
        writers = [peer.run(f"pub tiny{number}") for number in range(FULL_WINDOWS)]
        for writer in writers:
            assert peer.flood(itertools.repeat(writer.packet(b"x"), WINDOW)) == WINDOW
            writer.end()
        scene.server.wait_metric("pipe_waiting_publishers", FULL_WINDOWS, timeout=120)
        for number, writer in enumerate(writers):
            reading = scene.peer(suite=suite)
            reader = reading.run(f"sub tiny{number}")
            assert reader.wait(120) == 0
            assert writer.wait(120) == 0
            assert reader.size == WINDOW


@pytest.mark.data_path
@pytest.mark.parametrize("size", [1, 32 * KIB])
@pytest.mark.parametrize("held_by", ["nobody there", "a clogged reader"])
def test_held_publisher_that_closes_is_gone_at_once(
    set_scene: SetScene, suite: Suite, held_by: str, size: int
) -> None:
    """A close is not kept behind what waits, and the connection's other sessions go on."""
    scene = set_scene(window="64KiB")
    with scene.attack():
        if held_by == "a clogged reader":
            reader = scene.peer().run("sub held", window=KIB)
            reader.granted = MAX_WINDOW  # it opens no window
        peer = scene.peer(suite=suite)
        writer = peer.run("pub held")
        if held_by == "a clogged reader":
            attacks.fill(writer, 8 * MIB)
            scene.server.wait_metric("pipe_clogged_subscribers", 1)
        else:
            peer.flood(itertools.repeat(writer.packet(b"x" * size), writer.window // size))
            scene.server.wait_waiting()
        writer.close()
        scene.server.wait_lines("session ended", mode="publish", outcome="left")
        assert peer.run("whoami").wait() == 0


def test_slow_scrapes_hold_nothing_up(scene: Scene) -> None:
    """A thousand connections to the metrics port that say nothing take no threads, and go."""
    server = scene.server
    threads = count_threads(scene)
    with contextlib.ExitStack() as stack, scene.attack(descriptors=64):
        slow = []
        for _ in range(SLOW_SCRAPES):
            one = socket.create_connection((scene.target().host, server.metrics_port))
            slow.append(stack.enter_context(one))
            with contextlib.suppress(ConnectionError):
                one.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert count_threads(scene) <= threads + 1
        server.metrics()
        assert len(readable(slow, 0)) < SLOW_SCRAPES, "an honest scrape waits for them"
        wait_until(lambda: len(readable(slow, 0)) == SLOW_SCRAPES, "the end of all of them")
