"""A process with one end of wires, to be stopped, killed or cut off.

It tells on stdout what becomes of a wire, and answers the frame ``?`` with what came before it.
The near end, which a test has where it cuts the network, opens a wire, and another after it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from pipe.errors import Unreachable
from pipe.mesh.certificates import MeshFiles

from .kinds import FAR, NEAR, Ear, make_node

if TYPE_CHECKING:
    from pipe.mesh.directory import WorkerId
    from pipe.mesh.wire import Wire

ASK = b"?"


def tell(text: str) -> None:
    """Say something to the test."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class FarEar(Ear):
    """Answers, and tells of the end."""

    wire: Wire

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def received(self, frame: memoryview) -> None:
        """A frame has come."""
        if frame == ASK:
            self.wire.send([(self.digest.encode(),)])
        else:
            super().received(frame)

    def lost(self, reason: str) -> None:
        """The other end is gone."""
        super().lost(reason)
        self.ended.set()
        tell(f"lost: {reason}")


def accept(_worker: WorkerId, wire: Wire) -> FarEar:
    """Take every wire."""
    ear = FarEar()
    ear.wire = wire
    return ear


async def serve(folder: Path, here: tuple[str, int], there: tuple[str, int]) -> None:
    """Listen until the process ends."""
    files = MeshFiles(folder / "ca.pem", folder / "n2.pem", folder / "n2.key")
    await make_node(FAR, files, accept, here, there)
    tell("ready")
    await asyncio.Event().wait()


async def call(folder: Path, here: tuple[str, int], there: tuple[str, int]) -> None:
    """Open a wire, and a new one whenever it is lost."""
    files = MeshFiles(folder / "ca.pem", folder / "n1.pem", folder / "n1.key")
    node = await make_node(NEAR, files, accept, here, there)
    while True:
        ear = FarEar()
        try:
            ear.wire = await node.connect(FAR, ear)
        except Unreachable:
            await asyncio.sleep(0.1)
            continue
        tell("connected")
        await ear.ended.wait()


if __name__ == "__main__":
    role, folder, host, port, other, other_port = sys.argv[1:]
    run = {"near": call, "far": serve}[role]
    uvloop.run(run(Path(folder), (host, int(port)), (other, int(other_port))))
