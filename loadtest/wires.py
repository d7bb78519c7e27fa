"""Measures wires between machines, on one: ``python -m loadtest.wires [MIB]``.

Two processes; the receiver gives credit for 1 MiB, as streams do.  CPU is that of both, threads
included; latency is half of a round trip of 64 bytes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from pipe.language.quantities import GIB, KIB, MIB
from pipe.mesh.certificates import MeshFiles
from tests.mesh.kinds import FAR, HOST, KINDS, NEAR, Ear, free_port, node_files

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.wire import Wire

CREDIT = MIB
STEP = 256 * KIB
ROUNDS = 3000
SMALL = 64


class Receiver:
    """Counts, gives credit, and sends small frames back."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.got = self.told = 0

    def received(self, frame: memoryview) -> None:
        """A frame has come."""
        if len(frame) == SMALL:
            self.wire.send([bytes(frame)])
            return
        self.got += len(frame)
        if self.got - self.told >= STEP:
            self.told = self.got
            self.wire.send([self.got.to_bytes(8)])

    def wire_blocked(self, blocked: bool) -> None:
        """Credit comes before that."""

    def lost(self, reason: str) -> None:
        """It is over."""
        if reason != "it has closed the link":
            sys.stderr.write(f"lost: {reason}\n")


def cpu() -> float:
    """Seconds that this process has used, all its threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def receive(kind: str, folder: Path, ports: tuple[int, int], pipe: Connection) -> None:
    """Be the receiving process; each message on the pipe asks for its CPU."""

    async def main() -> None:
        files = MeshFiles(folder / "ca.pem", folder / "n2.pem", folder / "n2.key")

        def accept(_worker: WorkerId, wire: Wire) -> Receiver:
            return Receiver(wire)

        await KINDS[kind](FAR, files, accept, (HOST, ports[1]), (HOST, ports[0]))
        pipe.send("ready")
        while await asyncio.to_thread(pipe.recv):
            pipe.send(cpu())

    uvloop.run(main())


async def measure(kind: str, folder: Path, amount: int) -> None:
    """Measure one kind."""
    ports = free_port(), free_port()
    near_pipe, far_pipe = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=receive, args=(kind, folder, ports, far_pipe)
    )
    process.start()
    near_pipe.recv()
    files = MeshFiles(folder / "ca.pem", folder / "n1.pem", folder / "n1.key")
    places = (HOST, ports[0]), (HOST, ports[1])
    node = await KINDS[kind](NEAR, files, lambda _, wire: Receiver(wire), *places)
    ear = Ear()
    wire = await node.connect(FAR, ear)

    def both() -> float:
        near_pipe.send(True)
        return cpu() + float(near_pipe.recv())

    sent, credit = 0, CREDIT
    for size in (32 * KIB, 128 * KIB):
        chunk = os.urandom(size)
        ear.frames.clear()
        began, used, goal = time.monotonic(), both(), sent + amount
        while sent < goal:
            while sent + size <= credit and sent < goal:
                wire.send([chunk])
                sent += size
            await ear.wait_until(lambda: ear.frames or ear.reason)
            credit = int.from_bytes(ear.frames[-1]) + CREDIT
            ear.frames.clear()
        seconds, used = time.monotonic() - began, both() - used
        print(
            f"{kind:6} {size // KIB:4} KiB: {used * GIB / amount:5.2f} CPU-s per GiB,"
            f" {amount / seconds / 1e6:4.0f} MB/s"
        )
    await asyncio.sleep(0.1)
    ear.frames.clear()
    times = []
    small = bytes(SMALL)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        wire.send([small])
        await ear.wait_until(lambda: any(len(frame) == SMALL for frame in ear.frames))
        times.append((time.perf_counter() - began) / 2 * 1e6)
        ear.frames.clear()
    times.sort()
    print(f"{kind:6} 64 B: p50 {times[ROUNDS // 2]:.0f} us, p99 {times[ROUNDS * 99 // 100]:.0f} us")
    wire.close()
    near_pipe.send(False)
    process.join()
    await node.close()


def main() -> None:
    """Measure all kinds."""
    amount = int(sys.argv[1] if len(sys.argv) > 1 else 512) * MIB
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for node in (NEAR, FAR):
            node_files(folder, node.node)
        print("load average before:", *os.getloadavg())
        for kind in KINDS:
            uvloop.run(measure(kind, folder, amount))


if __name__ == "__main__":
    main()
