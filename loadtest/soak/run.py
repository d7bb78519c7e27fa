"""The soak of one process: rounds of scenes, a quiet point after each, and residents that stay.

The rule that it keeps: at a quiet point no scene is under way and the residents are silent, so that
readings can be compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from loadtest import procfs
from loadtest.workspace import MIB
from tests.e2e.server import Status

from .clients import Client, Library, OpenSSH, Wish
from .scene import Scene
from .scenes import LONGEST_SECONDS, PLAYS
from .stage import USERS, Stage
from .tally import table
from .watch import Reading, Served, left_behind, slope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SHARE: Final = 0.65
WORKERS: Final = 6
"""Scenes at once."""

ROUNDS: Final = 30
LEAST_ROUND_SECONDS: Final = 5.0

RESIDENT_TOPIC: Final = "residents"
RESIDENT_CIPHERS: Final = ("", "chacha20-poly1305@openssh.com", "aes256-ctr")
RESIDENT_PIECE: Final = 1 << 17
RESIDENT_SECONDS: Final = 1.0

KEPT_BYTES: Final = 16 * MIB
"""What memory may be above its level after warm-up: the allocator keeps some of a busy minute."""

MOST_SLOPE: Final = 16.0
"""MiB per hour: one step of 2 MiB late in a quarter of an hour, which allocators make, is 10."""

JUDGED_READINGS: Final = 12
"""With fewer in its second half a slope is noise."""

ALLOWED: Final = {"threads": 8, "descriptors": 6, "objects": 60}
"""Pools that fill with use: threads and connections of the accounts database, cached accounts."""


class Residents:
    """A publisher and readers that stay from the beginning to the end."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self._sent = hashlib.sha256()
        self._size = 0
        self._readers: list[tuple[Client, hashlib._Hash]] = []
        self._publisher: OpenSSH
        self._logs = soak.new_log()
        self.connections = 0

    async def start(self) -> None:
        """Log all in."""
        port, key = self._soak.server.port, self._soak.keys["alice"]
        for place, cipher in enumerate(RESIDENT_CIPHERS):
            wish = Wish("alice", key, port, cipher, rekey=place == 0)
            reader = await Library.start(wish, f"sub {RESIDENT_TOPIC}")
            self._readers.append((reader, hashlib.sha256()))
        wish = Wish("alice", key, port, rekey=True)
        self._readers.append((await OpenSSH.start(wish, f"sub {RESIDENT_TOPIC}"), hashlib.sha256()))
        command = f"pub -m {len(self._readers)} {RESIDENT_TOPIC}"
        self._publisher = await OpenSSH.start(wish, command, self._logs)
        self.connections = len(self._readers) + 1
        await self.talk()

    async def talk(self) -> None:
        """Send a piece, and wait until everybody has it."""
        piece = os.urandom(RESIDENT_PIECE)
        self._sent.update(piece)
        self._size += len(piece)
        await self._publisher.send(piece)
        for reader, digest in self._readers:
            await reader.wait_received(len(piece))
            digest.update(reader.received)
            reader.received.clear()
        self._soak.tally.count("bytes published", len(piece))
        self._soak.tally.count("bytes checked", len(piece) * len(self._readers))

    async def finish(self) -> None:
        """End in good order, and compare."""
        tally = self._soak.tally
        self._publisher.end_input()
        everybody = [self._publisher, *(reader for reader, _ in self._readers)]
        for client in everybody:
            status = await client.wait()
            if status != Status.OK:
                tally.fail("wrong statuses", f"residents: {status}: {client.words}")
        for reader, digest in self._readers:
            digest.update(reader.received)
            tally.count("streams checked")
            if digest.digest() != self._sent.digest():
                tally.fail("mismatches", f"a resident's {self._size} bytes")
        tally.count("rekeys seen by ssh", self._publisher.rekeys())

    async def close(self) -> None:
        """End them whatever they do."""
        clients = [reader for reader, _ in self._readers]
        if self.connections:
            clients.append(self._publisher)
        await asyncio.gather(*(client.close() for client in clients))


class Soak(Stage):
    """One run.

    Args:
        directory: where it may write.
        seconds: how long the load goes on.
        seed: of all random numbers.
    """

    def __init__(self, directory: Path, seconds: float, seed: int) -> None:
        super().__init__(directory, seed, SHARE, LONGEST_SECONDS)
        self.readings: list[Reading] = []
        self._seconds = seconds
        self.server = Served(directory)
        self._residents = Residents(self)
        self._server_used = 0.0  # processor time
        self._empty: Reading | None = None
        self._end: Reading | None = None

    def port(self, draw: random.Random) -> int:
        """There is one."""
        del draw
        return self.server.port

    @property
    def accounts(self) -> list[str]:
        """Where the server has them."""
        return ["--data-dir", str(self.server.data)]

    # -- the run ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go through all rounds, and let everybody leave.  Cancelled, it ends what it has begun."""
        try:
            await self._introduce()
            self._empty = await self.server.settle(0)
            await self._residents.start()
            self._start = time.monotonic()
            length = max(LEAST_ROUND_SECONDS, self._seconds / ROUNDS)
            while time.monotonic() < self._start + self._seconds - length / 2:
                await self._round(length)
                self.readings.append(await self.server.settle(self._residents.connections))
                self._show()
            await self._residents.finish()
        except Exception as error:  # noqa: BLE001 - a report is due all the same
            self.tally.fail("the soak itself", f"{error!r}")
        finally:
            await self._residents.close()
        self._end = await self.server.settle(0)
        self.count_cpu()
        self._server_used = procfs.tree_cpu_seconds(self.server.pid)

    async def _introduce(self) -> None:
        """Let users claim their names, and the server open what it keeps open."""
        for user in USERS:
            wish = Wish(user, self.keys[user], self.server.port)
            client = await Library.start(wish, "whoami")
            await client.wait()
            await client.close()

    async def _round(self, length: float) -> None:
        deadline = time.monotonic() + length
        async with asyncio.TaskGroup() as group:
            group.create_task(self._talk(deadline))
            for _ in range(WORKERS):
                group.create_task(self._work(deadline))

    async def _talk(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            await self._residents.talk()
            await asyncio.sleep(RESIDENT_SECONDS)

    def _next(self, number: int) -> tuple[Scene, str, Callable[[], Awaitable[None]]]:
        plays, weights = zip(*PLAYS, strict=True)
        play = random.Random(f"{self.seed} play {number}").choices(plays, weights)[0]
        scene = Scene(self, number)
        return scene, play.__name__, partial(play, scene)

    def _show(self) -> None:
        last = self.readings[-1]
        print(
            f"{(time.monotonic() - self._start) / 60:5.1f} min: {sum(self.tally.scenes.values())} "
            f"scenes, {len(self.tally.broken)} broken promises; server {last.memory / MIB:.1f} MiB,"
            f" {last.descriptors} descriptors, {last.tasks} tasks",
            flush=True,
        )

    # -- the end ----------------------------------------------------------------------------------

    def judge(self) -> None:
        """Stop the server, and note what is left behind or was said in its log."""
        if not self.server.running:
            self.tally.fail("server", "it has ended by itself")
        elif (status := self.server.stop()) != Status.OK:
            self.tally.fail("server", f"it ended with {status}")
        bad, warnings = self.server.complaints()
        for line in bad:
            self.tally.fail("lines in the server's log", line)
        for text, number in warnings.items():
            self.tally.count(f"warnings “{text}”", number)
        if len(self.readings) > 1:
            self._compare(self.readings[0], self.readings[-1])
        if self._empty and self._end:
            for line in left_behind(self._empty, self._end, ALLOWED):
                self.tally.fail("left behind", f"when all had left, {line}")

    def _compare(self, first: Reading, last: Reading) -> None:
        for line in left_behind(first, last, ALLOWED):
            self.tally.fail("left behind", f"since warm-up, {line}")
        growth = last.memory - first.memory
        if growth > KEPT_BYTES:
            self.tally.fail("left behind", f"{growth / MIB:.1f} MiB since warm-up")
        rate = slope(self.readings)
        if len(self.readings) >= 2 * JUDGED_READINGS and rate > MOST_SLOPE:
            self.tally.fail("left behind", f"memory grows by {rate:.1f} MiB an hour")

    def report(self) -> str:
        """The table, and what was broken."""
        counts = self.tally.counts
        kinds = {line.partition(":")[0] for line in self.tally.broken}
        rows = [("scenes", f"{sum(self.tally.scenes.values())}")]
        if self._server_used:
            used = f"{self._used:.0f} s, the server's {self._server_used:.0f} s"
            rows += [("processor time", used)]
        rows += [
            (name, f"{count / MIB:.0f} MiB" if name.startswith("bytes") else str(count))
            for name, count in sorted(counts.items())
            if name not in kinds
        ]
        if self.readings:
            rows += self._levels()
        rows += [("mismatches", str(counts["mismatches"]))]
        rows += [(name, str(counts[name])) for name in sorted(kinds - {"mismatches"})]
        rows += [("broken promises", str(len(self.tally.broken)))]
        return "\n".join([table(rows), *(f"  ! {line}" for line in self.tally.faults())])

    def _levels(self) -> list[tuple[str, str]]:
        first, middle, last = (
            self.readings[0],
            self.readings[len(self.readings) // 2],
            self.readings[-1],
        )
        points = [self._empty, first, middle, last, self._end]
        rows = []
        for name in ("memory", "descriptors", "tasks", "threads", "connections", "topics"):
            values = [getattr(point, name) if point else 0 for point in points]
            texts = [f"{value / MIB:.1f}" if name == "memory" else str(value) for value in values]
            unit = "MiB " if name == "memory" else ""
            rows.append((name, f"{unit}{' → '.join(texts)}"))
        when = ", ".join(f"{(point.at) / 60:.1f}" for point in (first, middle, last))
        rows.append(("", f"(nobody there; after {when} min; all have left)"))
        rows.append(("slope of memory", f"{slope(self.readings):+.1f} MiB per hour, second half"))
        return rows
