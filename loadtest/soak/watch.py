"""The server under the soak: started as a child, read at quiet points, compared with before."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from urllib.request import urlopen

from loadtest import procfs
from loadtest.workspace import HOST, MIB, ROOT, BenchError, wait_until
from tests.e2e.clients import bare_environment
from tests.e2e.server import Metrics, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 40.0
ANSWER_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 30.0
"""Until what a round has left behind must be gone: sessions that were cut get 5 s to go."""

LOOK_SECONDS: Final = 0.2

STALL_SECONDS: Final = 5
SETTINGS: Final = {
    "signup": "open",
    "log-format": "json",
    "drain": "5s",
    "stall-timeout": f"{STALL_SECONDS}s",
    "buffer": "256KiB",
    "window": "256KiB",
    "rekey-bytes": "4MiB",
}
"""Small buffers are full sooner, and much of what is to be tried happens at their bounds."""

BAD_SIGNS: Final = ("Traceback", "was never", "never retrieved")


@dataclass(frozen=True)
class Reading:
    """What the server had in hand at a quiet point.

    Attributes:
        at: seconds since the soak began.
        memory: bytes that are resident.
        objects: how many there were of each class that is watched.
    """

    at: float
    memory: int
    descriptors: int
    threads: int
    tasks: int
    connections: int
    sessions: int
    topics: int
    waiting: int
    clogged: int
    buffered: int
    objects: Counter[str] = field(repr=False)


LEVELS: Final = (
    *("descriptors", "threads", "tasks", "connections", "sessions", "topics", "waiting"),
    *("clogged", "buffered"),
)
"""The figures of a `Reading` that must be back where they were."""


class Served:
    """The server process."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.port, self._metrics_port = free_port(), free_port()
        self._log_path = directory / "server.log"
        self._began = time.monotonic()
        words = [sys.executable, "-m", "loadtest.soak.served", "serve", "--host", HOST]
        words += ["--port", str(self.port), "--metrics-port", str(self._metrics_port)]
        words += ["--data-dir", str(self.data), "--web-port", "0"]
        for name, value in SETTINGS.items():
            words += [f"--{name}", value]
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=bare_environment(),
                start_new_session=True,  # Ctrl-C is for the soak, which ends it in order
            )
        try:
            wait_until(self._is_up, START_SECONDS, "the start of the server")
        except BaseException:
            self._process.kill()
            raise

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise BenchError(f"the server did not start: {self._log_path.read_text().strip()}")
        return '"serving"' in self._log_path.read_text()

    @property
    def pid(self) -> int:
        """Of the one process that it is."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def metrics(self) -> Metrics:
        """Scrape it."""
        url = f"http://{HOST}:{self._metrics_port}/metrics"
        with urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return Metrics(answer.read().decode())

    def read(self) -> Reading:
        """Take a reading now."""
        tasks, objects = self._ask()
        metrics = self.metrics()
        return Reading(
            time.monotonic() - self._began,
            procfs.resident_bytes(self.pid),
            len(list(Path(f"/proc/{self.pid}/fd").iterdir())),
            len(list(Path(f"/proc/{self.pid}/task").iterdir())),
            tasks,
            int(metrics.value("pipe_connections")),
            int(metrics.value("pipe_sessions")),
            int(metrics.value("pipe_topics")),
            int(metrics.value("pipe_waiting_publishers")),
            int(metrics.value("pipe_clogged_subscribers")),
            int(metrics.value("pipe_send_buffer_bytes")),
            objects,
        )

    def _ask(self) -> tuple[int, Counter[str]]:
        stdin, stdout = _ends(self._process)
        stdin.write(b"?\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise BenchError("the server has ended")
        answer = json.loads(line)
        return answer["tasks"], Counter(answer["objects"])

    async def settle(self, connections: int) -> Reading:
        """Take a reading once there are so many connections, or when it has been long enough."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            metrics = await asyncio.to_thread(self.metrics)
            quiet = metrics.value("pipe_connections") <= connections
            quiet &= metrics.value("pipe_send_buffer_bytes") == 0
            if quiet or time.monotonic() > deadline:
                return await asyncio.to_thread(self.read)
            await asyncio.sleep(LOOK_SECONDS)

    def stop(self) -> int:
        """Ask it to end, as an operator does; its exit status."""
        if self.running:
            self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            for end in _ends(self._process):
                end.close()

    def complaints(self) -> tuple[list[str], Counter[str]]:
        """What is in its log that should not be, and the warnings, by their text."""
        bad: list[str] = []
        warnings: Counter[str] = Counter()
        for line in self._log_path.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                bad.append(line)
                continue
            level = entry.get("level")
            if level in {"error", "critical"} or any(sign in line for sign in BAD_SIGNS):
                bad.append(line)
            elif level == "warning":
                warnings[str(entry.get("event"))] += 1
        return bad, warnings


def _ends(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin
    assert process.stdout
    return process.stdin, process.stdout


def slope(readings: Sequence[Reading]) -> float:
    """The growth of memory in MiB per hour, by least squares over the second half."""
    half = readings[len(readings) // 2 :]
    count = len(half)
    if count < 2:
        return 0.0
    hours = [reading.at / 3600 for reading in half]
    sizes = [reading.memory / MIB for reading in half]
    mean_hours, mean_sizes = sum(hours) / count, sum(sizes) / count
    spread = sum((hour - mean_hours) ** 2 for hour in hours)
    pairs = zip(hours, sizes, strict=True)
    return sum((hour - mean_hours) * (size - mean_sizes) for hour, size in pairs) / spread


def left_behind(before: Reading, after: Reading, allowed: dict[str, int]) -> list[str]:
    """What there is more of than before.

    Args:
        before: the level to be back at.
        after: the level now.
        allowed: how many more of each figure there may be, where that is not 0.
    """
    lines = []
    for name in LEVELS:
        old, new = getattr(before, name), getattr(after, name)
        if new > old + allowed.get(name, 0):
            lines.append(f"{name}: {old} before, {new} after")
    for name, new in sorted(after.objects.items()):
        old = before.objects[name]
        if new > old + allowed.get("objects", 0):
            lines.append(f"objects of {name}: {old} before, {new} after")
    return lines
