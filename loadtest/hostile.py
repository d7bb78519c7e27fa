"""What an innocent user notices of hostile peers: `make bench-hostile`.

For each kind of misbehaviour in `tests/hostile/attacks.py`, and for each of the server's two data
paths, an attacker does it again and again for some seconds.  Meanwhile the innocent user sends
64-byte messages there and back.  The table has that user's round trips and the lag of the server's
event loop, beside the memory that it cost.  A crowd (`tests/hostile/crowds.py`) is measured once
for each of what it does at once: it joins, closes, joins again and hangs up by reset.  The figures
depend on the machine: attacker, server and innocent user share its processors.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e import clients
from tests.e2e.clients import KeyRing
from tests.e2e.payloads import MIB
from tests.e2e.server import Server
from tests.hostile.attacks import CASES
from tests.hostile.ciphers import LANE, PLAIN
from tests.hostile.crowds import FLOODS, Crowd
from tests.hostile.innocent import Innocent, Latency
from tests.hostile.peer import Target
from tests.hostile.scene import look, reset_peak
from tests.hostile.transport import CutOffError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.samples import Sample

    from tests.e2e.server import Metrics
    from tests.hostile.ciphers import Suite

SECONDS = 5.0
"""How long each attack goes on; one that takes longer is done once."""

QUIET = "nobody"
GOAL_P99_MS, GOAL_LAG_MS = 50.0, 100.0
BUCKET = "pipe_loop_lag_seconds_bucket"
PATHS: dict[str, Suite] = {"lane": LANE, "plain": PLAIN}
ATTACKS = {**CASES, **FLOODS}
CROWD_SIZES = (500, 2_000, 4_900)

SETTLE_SECONDS = 1.0
"""So long the innocent user is watched at least, after the crowd's part is done."""

CROWD_DEADLINE = 120.0


@dataclass(frozen=True)
class Row:
    """What one attack has come to."""

    name: str
    path: str
    times: int
    innocent: Latency
    lag_ms: float
    growth: int
    note: str = ""

    def cells(self) -> list[str]:
        """The row as text."""
        good = self.innocent.p99 < GOAL_P99_MS and self.lag_ms <= GOAL_LAG_MS
        figures = (self.innocent.p50, self.innocent.p99, self.innocent.longest)
        return [
            self.name,
            self.path,
            str(self.times),
            *(f"{figure:.1f}" for figure in figures),
            f"≤ {self.lag_ms:g}",
            f"{self.growth / MIB:.1f}",
            "ok" if good else "MISS",
            self.note,
        ]


HEAD = ["case", "path", "times", "p50 ms", "p99 ms", "max ms", "lag ms", "peak MiB", "goal", ""]


def lag_between(before: Metrics, after: Metrics) -> float:
    """The bucket's bound, in milliseconds, that no lag between two scrapes was above."""
    counts = [
        (float(new.labels["le"]), new.value - old.value)
        for old, new in zip(_buckets(before), _buckets(after), strict=True)
    ]
    total = counts[-1][1]
    return next(bound for bound, count in counts if count == total) * 1000


def _buckets(metrics: Metrics) -> list[Sample]:
    return [sample for sample in metrics.samples if sample.name == BUCKET]


def measure(server: Server, innocent: Innocent, name: str, path: str, seconds: float) -> Row:
    """Do one attack for so many seconds."""
    target = Target(clients.HOST, server.port, "mallory", server.keys.openssh("mallory"))
    attack = ATTACKS.get(name, _rest)
    before, metrics = look(server), server.metrics()
    reset_peak(server.pid)
    innocent.mark()
    times, note = 0, ""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            attack(target, PATHS[path])
        except (CutOffError, TimeoutError, ConnectionError, OSError) as error:
            note = f"ended: {error}"
        times += 1
    latency = innocent.mark()
    growth = server.peak_rss_bytes() - before.memory
    return Row(name, path, times, latency, lag_between(metrics, server.metrics()), growth, note)


def measure_crowd(server: Server, innocent: Innocent, size: int, path: str) -> Iterator[Row]:
    """Have so many sessions of one user do the same at once, one thing after the other."""
    target = Target(clients.HOST, server.port, "mallory", server.keys.openssh("mallory"))
    there = int(server.metrics().value("pipe_sessions"))

    def do(name: str, action: Callable[[], None], sessions: int) -> Row:
        before, metrics = look(server), server.metrics()
        reset_peak(server.pid)
        innocent.mark()
        action()
        time.sleep(SETTLE_SECONDS)
        server.wait_metric("pipe_sessions", there + sessions, CROWD_DEADLINE)
        latency = innocent.mark()
        growth = server.peak_rss_bytes() - before.memory
        lag = lag_between(metrics, server.metrics())
        return Row(f"{size:,} sessions {name}", path, 1, latency, lag, growth)

    with Crowd(target, PATHS[path], size) as crowd:
        yield do("join", crowd.join, size)
        yield do("close", crowd.close, 0)
    with Crowd(target, PATHS[path], size) as crowd:
        crowd.join()
        server.wait_metric("pipe_sessions", there + size, CROWD_DEADLINE)
        yield do("hang up", crowd.reset, 0)


def _rest(_target: Target, _suite: Suite) -> None:
    time.sleep(1.0)


def show(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each case and path")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    options = parser.parse_args()
    names = [QUIET, *(name for name in ATTACKS if options.only in name)]
    sizes = [size for size in CROWD_SIZES if options.only in f"{size:,} sessions"]
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pipe-hostile-")))
        keys = KeyRing(directory)
        server = Server(directory / "data", keys, "fast")
        stack.callback(server.stop)
        target = Target(clients.HOST, server.port, "innocent", keys.openssh("innocent"))
        innocent = Innocent(target)
        stack.callback(innocent.kill)
        for name in names:
            for path in PATHS:
                if sys.stderr.isatty():
                    print(f"{name}, {path} …", file=sys.stderr)
                rows.append(measure(server, innocent, name, path, options.seconds))
        for size, path in itertools.product(sizes, PATHS):
            if sys.stderr.isatty():
                print(f"{size:,} sessions, {path} …", file=sys.stderr)
            rows.extend(measure_crowd(server, innocent, size, path))
        innocent.finish()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f}; p99 < {GOAL_P99_MS:g} ms and lag ≤ {GOAL_LAG_MS:g} ms:")
    print(show(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
