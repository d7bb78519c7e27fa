"""Wires between machines whose other end is killed, stopped or cut off."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pipe.language.quantities import KIB, MIB
from pipe.mesh.certificates import MeshFiles
from tests.hostile.namespaces import FAR_ADDRESS, NEAR_ADDRESS, Cable
from tests.mesh.far_end import ASK, accept
from tests.mesh.kinds import FAR, HOST, NEAR, Ear, digest, free_port, make_node, node_files

from .processes import DEADLINE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pipe.mesh.wire import Wire
    from tests.mesh.kinds import Node

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with both nodes' certificates."""
    for node in (NEAR.node, FAR.node):
        node_files(tmp_path, node)
    return tmp_path


def command(role: str, folder: Path, *places: tuple[str, int]) -> list[str]:
    """What runs one end."""
    words = [str(word) for place in places for word in place]
    return [sys.executable, "-m", "tests.mesh.far_end", role, str(folder), *words]


def wait_told(process: Process, text: str, times: int = 1) -> None:
    """Wait until an end has said something so many times."""
    found = process.stdout.wait(lambda output: output.data.count(text.encode()) >= times, DEADLINE)
    assert found, f"{text!r} is not among {process.stdout.data!r}, {process.text!r}"


class Scene:
    """A wire to a process."""

    def __init__(self, process: Process, node: Node, wire: Wire, ear: Ear) -> None:
        self.process, self.node, self.wire, self.ear = process, node, wire, ear

    async def ask_digest(self) -> str:
        """What the other end has got, once it has read all before the question."""
        count = len(self.ear.frames)
        self.wire.send([(ASK,)])
        await self.ear.wait_until(lambda: len(self.ear.frames) > count or self.ear.reason)
        return self.ear.frames[-1].decode()


@pytest_asyncio.fixture
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """A wire to a process, which is killed at the end."""
    here, there = (HOST, free_port()), (HOST, free_port())
    process = Process(command("far", folder, there, here), directory=ROOT)
    wait_told(process, "ready")
    files = MeshFiles(folder / "ca.pem", folder / "n1.pem", folder / "n1.key")
    node = await make_node(NEAR, files, accept, here, there)
    ear = Ear()
    wire = await node.connect(FAR, ear)
    yield Scene(process, node, wire, ear)
    wire.close()
    await node.close()
    process.kill()


async def test_a_killed_peer(scene: Scene) -> None:
    """A wire whose other process was killed is lost."""
    scene.process.kill()
    await scene.ear.wait_until(lambda: scene.ear.reason)


async def test_a_stop_shorter_than_the_silence(scene: Scene) -> None:
    """A process that stood still for a moment goes on, and all arrives that was sent meanwhile."""
    frames = [os.urandom(64 * KIB) for _ in range(256)]
    scene.process.send_signal(signal.SIGSTOP)
    scene.wire.send([(frame,) for frame in frames])
    assert scene.wire.blocked
    scene.process.send_signal(signal.SIGCONT)
    await scene.ear.wait_until(lambda: not scene.wire.blocked or scene.ear.reason)
    assert await scene.ask_digest() == digest(frames)


async def test_a_peer_that_stands_still(scene: Scene) -> None:
    """A wire whose other process stands still is lost at both ends, even if that one goes on."""
    scene.wire.send([(bytes(MIB),)] * 8)
    scene.process.send_signal(signal.SIGSTOP)
    await scene.ear.wait_until(lambda: scene.ear.reason)
    scene.process.send_signal(signal.SIGCONT)
    wait_told(scene.process, "lost: ")


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Two networks, and a cable between them; this thread is at the near end."""
    try:
        with Cable().laid() as cable:
            yield cable
    except PermissionError as error:
        pytest.skip(f"no network namespaces: {error}")


@pytest.mark.slow
def test_a_cut_network(folder: Path, cable: Cable) -> None:
    """Where the network is cut both ends lose the wire; once it heals, a new one can be opened."""
    here, there = (NEAR_ADDRESS, 7001), (FAR_ADDRESS, 7002)
    far = Process(cable.from_afar(command("far", folder, there, here)), directory=ROOT)
    wait_told(far, "ready")
    near = Process(command("near", folder, here, there), directory=ROOT)
    try:
        wait_told(near, "connected")
        cable.pull()
        wait_told(near, "lost: ")
        wait_told(far, "lost: ")
        cable.plug_in()
        wait_told(near, "connected", 2)
    finally:
        near.kill()
        far.kill()
    wait_until(lambda: not (near.running or far.running), "both ends are gone")
