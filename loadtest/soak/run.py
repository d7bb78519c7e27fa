"""The soak itself: rounds of scenes, a quiet point after each, and residents that stay through all.

The rules that it keeps: scenes start only while the whole of it (server and clients) has used less
than `SHARE` of a processor, so that other work on the machine goes on; at a quiet point no scene is
under way and the residents are silent, so that readings can be compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Final

import asyncssh

from loadtest import procfs
from loadtest.workspace import MIB, ROOT, make_key
from tests.e2e.clients import bare_environment
from tests.e2e.server import Status

from .clients import Client, Library, OpenSSH, Wish
from .scenes import LONGEST_SECONDS, PLAYS, Scene
from .tally import Tally, table
from .watch import Reading, Served, left_behind, slope

if TYPE_CHECKING:
    from pathlib import Path

SHARE: Final = 0.65
ADMIT_SECONDS: Final = 0.2
WORKERS: Final = 6
"""Scenes at once."""

ROUNDS: Final = 30
LEAST_ROUND_SECONDS: Final = 5.0

USERS: Final = ("alice", "bob", "mallory")
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


class Soak:
    """One run.

    Args:
        directory: where it may write.
        seconds: how long the load goes on.
        seed: of all random numbers.
    """

    def __init__(self, directory: Path, seconds: float, seed: int) -> None:
        self.tally = Tally()
        self.seed = seed
        self.readings: list[Reading] = []
        self._directory = directory
        self._seconds = seconds
        self._numbers = itertools.count()
        self._scene_numbers = itertools.count()
        self._draw = random.Random(seed)
        self.keys = {user: directory / user for user in USERS}
        for path in self.keys.values():
            make_key(path)
        self.server = Served(directory)
        self._residents = Residents(self)
        self._start = time.monotonic()
        self._cpu_at_start = procfs.tree_cpu_seconds(os.getpid())
        self._used = (0.0, 0.0)  # processor time of all, and of the server
        self._empty: Reading | None = None
        self._end: Reading | None = None

    def new_path(self, stem: str) -> Path:
        """A file that is not there yet."""
        return self._directory / f"{stem}-{next(self._numbers)}"

    def new_log(self) -> Path:
        """The same, for a client's log."""
        path = self.new_path("log")
        path.touch()
        return path

    def new_key(self) -> Path:
        """A private key that nobody has used."""
        path = self.new_path("key")
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
        path.chmod(0o600)  # or ssh will not use it
        return path

    async def manage(self, *words: str) -> None:
        """Run one of the commands that manage accounts."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pipe", *words, "--data-dir", str(self.server.data)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=bare_environment(),
        )
        _, said = await process.communicate()
        if process.returncode:
            self.tally.fail("wrong statuses", f"pipe {' '.join(words)}: {said.decode()}")

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
        everybody = procfs.tree_cpu_seconds(os.getpid()) - self._cpu_at_start
        self._used = (everybody, procfs.tree_cpu_seconds(self.server.pid))

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

    async def _work(self, deadline: float) -> None:
        plays, weights = zip(*PLAYS, strict=True)
        while await self._admit(deadline):
            number = next(self._scene_numbers)
            play = random.Random(f"{self.seed} play {number}").choices(plays, weights)[0]
            scene = Scene(self, number)
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    await play(scene)
            except Exception as error:  # noqa: BLE001 - whatever it is, it breaks a promise
                scene.fail("scenes that failed", f"{play.__name__}: {error!r}")
            finally:
                await scene.close()
            self.tally.scenes[play.__name__] += 1

    async def _admit(self, deadline: float) -> bool:
        """Wait until one more scene may begin; whether there is still time for it."""
        while time.monotonic() < deadline:
            used = procfs.tree_cpu_seconds(os.getpid()) - self._cpu_at_start
            if used < SHARE * (time.monotonic() - self._start):
                return True
            await asyncio.sleep(ADMIT_SECONDS)
        return False

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
        if all(self._used):
            rows += [("processor time", "{:.0f} s, the server's {:.0f} s".format(*self._used))]
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
