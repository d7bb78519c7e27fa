"""A service of several processes under a soak: machines with workers, and what they share.

A machine is `pipe serve --workers N`.  One alone has its accounts in a file; several share a
PostgreSQL of their own and are the nodes of a mesh, all on the loopback address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import urlopen

from loadtest import procfs
from loadtest.workspace import HOST, ROOT, BenchError
from pipe.mesh.certificates import make
from tests.e2e.clients import bare_environment
from tests.e2e.nodes import consecutive_ports
from tests.e2e.server import Metrics, free_port
from tests.postgres import Postgres

from .watch import ANSWER_SECONDS, BAD_SIGNS, SETTINGS

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

DRAIN_SECONDS: Final = 150
"""Longer than a scene takes, so that workers that are replaced end none."""

LOG_DRAIN: Final = "bob/lines"
MOST_SESSIONS: Final = 150
MOST_PATTERNS: Final = 12
"""Of one user: more than the scenes use, and few enough to try whether all are free at the end."""

LIMITS: Final = {
    "drain": f"{DRAIN_SECONDS}s",
    "log-drain": LOG_DRAIN,
    "max-sessions-per-user": str(MOST_SESSIONS),
    "max-patterns-per-user": str(MOST_PATTERNS),
}

START_SECONDS: Final = 120.0
"""Of a machine, beside much else."""

STOP_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.1

EMPTY: Final = (
    *("pipe_connections", "pipe_sessions", "pipe_topics", "pipe_waiting_publishers"),
    *("pipe_clogged_subscribers", "pipe_send_buffer_bytes"),
)
"""The figures that are 0 where nobody is."""


@dataclass(frozen=True)
class Holding:
    """What one process holds.

    Attributes:
        role: its machine, and ``hub`` or ``worker``.
        memory: bytes that are resident.
    """

    role: str
    memory: int
    descriptors: int
    threads: int


class Machine:
    """The processes of one `pipe serve`, which may be killed and started again.

    Args:
        directory: where its data and its log are.
        name: of the node.
        workers: how many it has.
        more: flags beside the usual ones.
    """

    def __init__(self, directory: Path, name: str, workers: int, more: list[str]) -> None:
        self.name = name
        self.workers = workers
        self.data = directory / name
        self.port, self.web_port, self._metrics_port = (free_port() for _ in range(3))
        self.log_path = directory / f"{name}.log"
        self._words = [sys.executable, "-m", "pipe", "serve", "--host", HOST, "--lane", "fast"]
        self._words += ["--port", str(self.port), "--metrics-port", str(self._metrics_port)]
        self._words += ["--data-dir", str(self.data), "--web-port", str(self.web_port)]
        self._words += ["--workers", str(workers), *more]
        for setting, value in {**SETTINGS, **LIMITS}.items():
            self._words += [f"--{setting}", value]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, for the first time or again, and return once it serves.

        Raises:
            BenchError: it does not.
        """
        self._process = process = self._spawn()
        deadline = time.monotonic() + START_SECONDS
        while not (self.running and await asyncio.to_thread(self.serving) == self.workers):
            if time.monotonic() > deadline or process.poll() is not None:
                end = self.log_path.read_text(errors="replace")[-2000:]
                raise BenchError(f"{self.name} does not start: {end}")
            await asyncio.sleep(LOOK_SECONDS)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=ROOT,
                env=bare_environment(),
                start_new_session=True,  # Ctrl-C is for the soak, which ends it in order
            )

    @property
    def running(self) -> bool:
        """Whether its hub has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def hub(self) -> int:
        """The process that was started."""
        assert self._process
        return self._process.pid

    @property
    def crew(self) -> list[int]:
        """Its workers."""
        return [pid for pid in procfs.children(self.hub) if "worker" in procfs.words(pid)]

    def metrics(self) -> Metrics | None:
        """Scrape it; nothing where it does not answer."""
        url = f"http://{HOST}:{self._metrics_port}/metrics"
        try:
            with urlopen(url, timeout=ANSWER_SECONDS) as answer:
                return Metrics(answer.read().decode())
        except OSError:
            return None

    def serving(self) -> int:
        """How many of its workers answer."""
        metrics = self.metrics()
        return int(metrics.value("pipe_up")) if metrics and "pipe_up" in metrics.names else 0

    def is_quiet(self) -> bool:
        """Whether all its workers are there, no others any more, and nobody else."""
        metrics = self.metrics()
        if not metrics or any(name not in metrics.names for name in (*EMPTY, "pipe_up")):
            return False
        full = metrics.value("pipe_up") == len(self.crew) == self.workers
        return full and not any(metrics.value(name) for name in EMPTY)

    def left(self) -> str:
        """What there is that should not be."""
        metrics = self.metrics()
        if not metrics:
            return "no answer"
        found = {name: metrics.value(name) for name in EMPTY if name in metrics.names}
        more = {name: value for name, value in found.items() if value}
        return f"{self.name}: {len(self.crew)} workers, {more}"

    def send(self, number: signal.Signals, *, all_of_it: bool = False) -> None:
        """Send a signal to its hub, or to all its processes."""
        for pid in [self.hub, *(self.crew if all_of_it else ())]:
            with contextlib.suppress(ProcessLookupError):  # workers go as their hub has gone
                os.kill(pid, number)

    async def wait_gone(self) -> None:
        """Return once its hub has ended."""
        assert self._process
        await asyncio.to_thread(self._process.wait)

    def holdings(self) -> dict[int, Holding]:
        """What each of its processes holds."""
        found = {}
        for pid in [self.hub, *self.crew]:
            role = f"{self.name} {'hub' if pid == self.hub else 'worker'}"
            folder = Path(f"/proc/{pid}")
            counts = [len(list((folder / kind).iterdir())) for kind in ("fd", "task")]
            found[pid] = Holding(role, procfs.resident_bytes(pid), *counts)
        return found

    def stop(self) -> int:
        """Ask it to end, as an operator does; its exit status."""
        assert self._process
        self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def kill(self) -> None:
        """End it whatever it does."""
        if self.running:
            self.send(signal.SIGKILL, all_of_it=True)

    def complaints(self) -> Iterator[str]:
        """The lines of its log that should not be there."""
        with self.log_path.open(errors="replace") as lines:
            for line in lines:
                try:
                    json.loads(line)
                except ValueError:
                    yield line.strip()
                    continue
                if any(sign in line for sign in BAD_SIGNS):
                    yield line.strip()

    def warnings(self) -> Counter[str]:
        """What it has warned of, by its text."""
        found: Counter[str] = Counter()
        with self.log_path.open(errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if entry.get("level") in {"warning", "error", "critical"}:
                    found[f"{entry['level']}s “{entry.get('event')}”"] += 1
        return found


class Service:
    """One machine, or the nodes of a mesh with their PostgreSQL.

    Args:
        directory: where their data are.
        nodes: how many machines.
        workers: how many of each.
    """

    def __init__(self, directory: Path, nodes: int, workers: int) -> None:
        self.postgres = Postgres() if nodes > 1 else None
        self._url = self.postgres.new_database() if self.postgres else ""
        self.machines: list[Machine] = []
        places: list[str] = []
        for number in range(1, nodes + 1):
            name = f"n{number}"
            more = self._meshed(directory, name, workers, places) if self._url else []
            self.machines.append(Machine(directory, name, workers, more))

    def _meshed(self, directory: Path, name: str, workers: int, places: list[str]) -> list[str]:
        files = make(name, directory / "ca").files
        place = f"{HOST}:{consecutive_ports(1 + 2 * workers)}"  # twice, for those that replace them
        words = ["--node", name, "--mesh", place, "--database-url", self._url]
        words += ["--mesh-ca", str(files.ca), "--mesh-cert", str(files.certificate)]
        words += ["--mesh-key", str(files.key)]
        if places:
            words += ["--join", ",".join(places)]
        places.append(place)
        return words

    async def start(self) -> None:
        """Start all of it.

        Raises:
            BenchError: a machine does not serve.
        """
        for machine in self.machines:
            machine.data.mkdir(mode=0o700)
            for key in ("host_key", "web_key"):
                kept = self.machines[0].data / key
                if kept.exists() and machine is not self.machines[0]:
                    shutil.copy(kept, machine.data)
            await machine.start()

    @property
    def accounts(self) -> list[str]:
        """The flags by which commands find its accounts."""
        words = ["--data-dir", str(self.machines[0].data)]
        return words + (["--database-url", self._url] if self._url else [])

    def choose(self, draw: random.Random) -> Machine:
        """One of the machines that run, as a balancer does; any if none does."""
        up = [machine for machine in self.machines if machine.running]
        return draw.choice(up or self.machines)

    def homes(self) -> list[str]:
        """The topics that have a home, by the table that machines share.

        Without the rows of duties, and of the topic that the server itself watches.
        """
        if not self.postgres:
            return []
        rows = self.postgres.execute("SELECT topic FROM homes", urlsplit(self._url).path[1:])
        found = [str(topic) for (topic,) in rows]
        return [topic for topic in found if topic[0] != "/" and topic != LOG_DRAIN]

    async def wait_quiet(self, seconds: float) -> bool:
        """Return once nobody is there and nothing is left of anybody; whether that came about."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(self._is_quiet):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    def _is_quiet(self) -> bool:
        return all(machine.is_quiet() for machine in self.machines) and not self.homes()

    def left(self) -> str:
        """What there is that should not be."""
        return "; ".join([*(machine.left() for machine in self.machines), f"{self.homes()}"])

    def close(self) -> None:
        """End what is left of it."""
        for machine in self.machines:
            machine.kill()
        if self.postgres:
            self.postgres.__exit__()
