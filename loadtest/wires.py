"""Measures links between two workers alone: ``python -m loadtest.wires [MIB]``.

Two processes, each with a link (`pipe.mesh.link`) on a wire of some kind.  Chunks go from one to
the other, which makes them chunks of its own again and gives credit for 1 MiB, as a topic's home
and the worker of its reader do.  CPU is that of both, threads included; what is sent one way is
half of a round trip of 64 bytes, one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from pipe.language.quantities import GIB, KIB, MIB
from pipe.limits.allocator import keep_large_blocks
from pipe.mesh.certificates import MeshFiles
from pipe.mesh.frames import Kind, pack_offset, unpack_offset
from pipe.mesh.hello import PROTOCOL, Hello
from pipe.mesh.link import Link
from pipe.mesh.peers import Peer
from pipe.mesh.unix import Sockets
from pipe.stream.chunks import Chunk
from tests.mesh.kinds import FAR, HOST, NEAR, free_port, make_node, node_files
from tests.mesh.neighbours import Neighbours

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from multiprocessing.connection import Connection

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.frames import Frame
    from pipe.mesh.wire import Wire

UNIX: Final = "unix"
KINDS: Final = (UNIX, "tls")
SIZES: Final = (32 * KIB, 128 * KIB)
"""Of chunks: a packet of SSH, and what a wire gathers of several."""

CREDIT: Final = MIB
STEP: Final = 256 * KIB
ROUNDS: Final = 2000
SMALL: Final = 64
SESSION: Final = 1
LIMIT_SECONDS: Final = 60.0


class Side:
    """One end of a link, which answers what comes: a `pipe.mesh.link.User`.

    Attributes:
        sent: bytes of chunks that went out.
        credit: bytes that may have gone out in all.
        answers: short chunks that came back.
    """

    def __init__(self, me: WorkerId, *, echoes: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self.link = Link(Hello(PROTOCOL, "", me), self, self._later)
        self._echoes = echoes
        self._got = self._told = 0
        self.sent, self.credit = 0, CREDIT
        self.answers = 0
        self.reason = ""
        self._news = asyncio.Event()

    def _later(self) -> None:
        self._loop.call_soon(self.link.flush)

    def accept(self, wire: Wire) -> Link:
        """Begin on a wire."""
        self.link.attach(wire)
        return self.link

    def greeted(self, hello: Hello) -> None:  # noqa: ARG002
        """It can begin."""
        self._news.set()

    def taken(self, frame: Frame) -> None:
        """A chunk, or credit for more, has come."""
        if frame.kind is Kind.CREDIT:
            self.credit = unpack_offset(frame.body)
            self._news.set()
            return
        chunk = Chunk(bytes(frame.body))
        if chunk.size == SMALL:
            self.answers += 1
            self._news.set()
            if self._echoes:
                self.link.write(SESSION, chunk)
            return
        self._got += chunk.size
        if self._got - self._told >= STEP:
            self._told = self._got
            self.link.send(Kind.CREDIT, SESSION, pack_offset(self._got + CREDIT))

    def blocked(self, blocked: bool) -> None:
        """Credit comes before that."""

    def lost(self, reason: str) -> None:
        """It is over."""
        self.reason = reason
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so; each time that something has come it is looked at.

        Raises:
            RuntimeError: the link has ended.
        """
        while not condition():
            if self.reason:
                raise RuntimeError(f"the link is lost: {self.reason}")
            self._news.clear()
            await self._news.wait()


def cpu() -> float:
    """Seconds that this process has used, all its threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(kind: str, folder: Path, amount: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Measure one kind of wire, with files of both nodes in a folder that `prepare` made.

    Returns:
        ``32`` and ``128``: CPU-s per GiB of both sides with chunks of so many KiB, and ``rate32``,
        ``rate128`` in MiB/s; ``p50`` and ``p99`` of 64 bytes one way, in microseconds.

    Raises:
        RuntimeError: the link was lost.
        TimeoutError: it took too long.
    """
    near, far = multiprocessing.Pipe()
    ports = free_port(), free_port()
    process = multiprocessing.get_context("spawn").Process(
        target=_be_far, args=(kind, folder, ports, far), daemon=True
    )
    process.start()
    try:
        if not near.poll(LIMIT_SECONDS):
            raise TimeoutError("the other side did not start")
        near.recv()
        return uvloop.run(_measure(kind, folder, ports, near, amount, rounds))
    finally:
        with contextlib.suppress(BrokenPipeError):
            near.send(False)
        process.join(LIMIT_SECONDS)


def prepare(folder: Path) -> None:
    """Make the files of both nodes."""
    for node in (NEAR, FAR):
        node_files(folder, node.node)


def _be_far(kind: str, folder: Path, ports: tuple[int, int], pipe: Connection) -> None:
    """Be the other process; each message on the pipe asks for its CPU."""

    async def main() -> None:
        keep_large_blocks()
        async with contextlib.AsyncExitStack() as stack:
            await listen(stack)
            pipe.send("ready")
            while await asyncio.to_thread(pipe.recv):
                pipe.send(cpu())

    async def listen(stack: contextlib.AsyncExitStack) -> None:
        if kind == UNIX:
            sockets = Sockets(Neighbours(FAR, folder, {}))
            stack.callback((await sockets.listen(lambda: Side(FAR, echoes=True).link)).close)
        else:
            files = MeshFiles(folder / "ca.pem", folder / "n2.pem", folder / "n2.key")
            places = (HOST, ports[1]), (HOST, ports[0])
            node = await make_node(
                FAR, files, lambda _, wire: Side(FAR, echoes=True).accept(wire), *places
            )
            stack.push_async_callback(node.close)

    uvloop.run(main())


async def _measure(
    kind: str, folder: Path, ports: tuple[int, int], pipe: Connection, amount: int, rounds: int
) -> dict[str, float]:
    keep_large_blocks()
    side = Side(NEAR)
    close: Callable[[], Awaitable[None]] | None = None
    if kind == UNIX:
        peers = Neighbours(NEAR, folder, {FAR: Peer(FAR, Neighbours(FAR, folder, {}).own.at)})
        await Sockets(peers).connect(FAR, side.link)
    else:
        files = MeshFiles(folder / "ca.pem", folder / "n1.pem", folder / "n1.key")
        places = (HOST, ports[0]), (HOST, ports[1])
        node = await make_node(NEAR, files, _refuse, *places)
        side.accept(await node.connect(FAR, side.link))
        close = node.close

    def both() -> float:
        pipe.send(True)
        return cpu() + float(pipe.recv())

    figures: dict[str, float] = {}
    async with asyncio.timeout(LIMIT_SECONDS):
        await side.until(lambda: side.link.open)
        for size in SIZES:
            used, began = both(), time.monotonic()
            await _send(side, size, amount)
            seconds, used = time.monotonic() - began, both() - used
            figures[f"{size // KIB}"] = used * GIB / amount
            figures[f"rate{size // KIB}"] = amount / MIB / seconds
        times = [await _go_round(side) for _ in range(rounds)]
    percentiles = statistics.quantiles(times, n=100)
    figures |= {"p50": percentiles[49] * 1e6 / 2, "p99": percentiles[98] * 1e6 / 2}
    side.link.fail("it is measured")
    if close:
        await close()
    return figures


async def _send(side: Side, size: int, amount: int) -> None:
    """Send so many bytes, and wait until all are taken; a chunk is never sent twice."""
    data = os.urandom(size)
    goal = side.sent + amount
    while side.sent < goal:
        while side.sent + size <= side.credit and side.sent < goal:
            side.link.write(SESSION, Chunk(data))
            side.sent += size
        await side.until(lambda: side.sent + size <= side.credit or side.credit >= goal + CREDIT)
    await side.until(lambda: side.credit >= goal + CREDIT)


async def _go_round(side: Side) -> float:
    """Send 64 bytes there and back, and return the seconds."""
    answers, began = side.answers, time.perf_counter()
    side.link.write(SESSION, Chunk(bytes(SMALL)))
    await side.until(lambda: side.answers > answers)
    return time.perf_counter() - began


def _refuse(_worker: WorkerId, _wire: Wire) -> Link:
    raise RuntimeError("nobody opens a wire to this side")


def main() -> None:
    """Measure all kinds."""
    amount = int(sys.argv[1] if len(sys.argv) > 1 else 512) * MIB
    kinds = sys.argv[2:] or KINDS
    print("load average before:", *os.getloadavg())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for kind in kinds:
            found = measure(kind, folder, amount)
            for size in (size // KIB for size in SIZES):
                cost, rate = found[f"{size}"], found[f"rate{size}"]
                print(f"{kind:6} {size:4} KiB: {cost:5.2f} CPU-s per GiB, {rate:5.0f} MiB/s")
            print(f"{kind:6} 64 B one way: p50 {found['p50']:.0f} us, p99 {found['p99']:.0f} us")


if __name__ == "__main__":
    main()
