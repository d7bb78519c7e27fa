"""Two nodes with wires between them, and an end that keeps what it hears."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import socket
from typing import TYPE_CHECKING, Final

import pytest

from pipe.mesh import certificates
from pipe.mesh.certificates import MeshFiles, contexts, make
from pipe.mesh.directory import WorkerId
from pipe.mesh.identity import PROTOCOL, Identity
from pipe.mesh.wires import TlsWires

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pipe.mesh.wire import Acceptor, End, Wire

IDENTITY: Final = Identity(PROTOCOL, "database", "SHA256:key")
OTHER_DATABASE: Final = IDENTITY._replace(database="another")
HOST: Final = "127.0.0.1"

NEAR: Final = WorkerId("n1", 1, 1001)
FAR: Final = WorkerId("n2", 1, 2001)


def free_port(host: str = HOST) -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def node_files(folder: Path, node: str) -> MeshFiles:
    """A node's files, of the CA in a folder."""
    return make(node, folder).files


def of_another_ca(folder: Path) -> MeshFiles:
    """A certificate that another mesh's CA has signed, with this one's CA to trust."""
    ca = node_files(folder, "n9").ca
    return node_files(folder / "other", NEAR.node)._replace(ca=ca)


def self_signed(folder: Path) -> MeshFiles:
    """A certificate that has signed itself."""
    own = node_files(folder / "own", NEAR.node).ca
    return MeshFiles(node_files(folder, "n9").ca, own, own.with_name("ca.key"))


def ended(folder: Path) -> MeshFiles:
    """A certificate that was good until yesterday."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "NODE_DAYS", -1)
        patch.setattr(certificates, "_EARLIER", datetime.timedelta(days=2))
        return node_files(folder, NEAR.node)


class Ear:
    """An end that keeps what it is told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.blocks: list[bool] = []
        self.reason = ""
        self.size = 0
        self._told = asyncio.Event()

    def received(self, frame: memoryview) -> None:
        """A frame has come."""
        self.frames.append(bytes(frame))
        self.size += len(frame)
        self._told.set()

    def wire_blocked(self, blocked: bool) -> None:
        """The wire has become blocked, or no longer is."""
        self.blocks.append(blocked)
        self._told.set()

    def lost(self, reason: str) -> None:
        """The other end is gone."""
        assert not self.reason, "lost is told once"
        self.reason = reason
        self._told.set()

    async def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so; each time that the end is told something it is looked at."""
        while not condition():
            self._told.clear()
            await self._told.wait()

    @property
    def digest(self) -> str:
        """Of all frames, with their borders."""
        return digest(self.frames)


def digest(frames: Sequence[bytes]) -> str:
    """Of frames, with their borders."""
    found = hashlib.sha256()
    for frame in frames:
        found.update(len(frame).to_bytes(4))
        found.update(frame)
    return found.hexdigest()


class Node:
    """One process's end of a mesh."""

    def __init__(self, wires: TlsWires, other: tuple[str, int]) -> None:
        self._wires = wires
        self._other = other

    async def connect(self, worker: WorkerId, end: End) -> Wire:
        """Open a wire to a worker of the other node."""
        return await self._wires.connect(worker, self._other, end)

    async def close(self) -> None:
        """End it."""
        await self._wires.close()


async def make_node(
    me: WorkerId,
    files: MeshFiles,
    accept: Acceptor,
    place: tuple[str, int],
    other: tuple[str, int],
    identity: Identity = IDENTITY,
) -> Node:
    """Make a node that listens at a place, and knows one other."""
    wires = TlsWires(me, identity, contexts(files), accept)
    await wires.listen(*place)
    return Node(wires, other)
