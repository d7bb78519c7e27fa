"""What several workers cost: ``make bench ARGS="--only scale"``.

The systems are one process, the relay, and two workers: once with publishers in the other worker
than their topic, once with publishers that move there.  CPU is that of the hub and all workers.
Two workers and their clients have two cores here, so these cases measure what a byte, a login or a
message costs, and not how much more a larger machine would carry.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Final

from loadtest import procfs, wires
from loadtest.cases import Case, Effort, Plan
from loadtest.latency import latency
from loadtest.logins import Crowd, logins
from loadtest.report import Goal, Metric
from loadtest.servers import Ability, ByHop, System
from loadtest.transfer import transfer
from loadtest.workspace import AES, MIB, STEP_LIMIT, BenchError, Client, wait_logged_in

if TYPE_CHECKING:
    from collections.abc import Sequence

_READERS: Final = 200
_FAN_PART: Final = 128
"""What 200 readers get is so small a part of what one gets."""
_BROKEN: Final = 74
_MILLISECONDS: Final = 1e3
_QUIET: Final = 1.0
"""Seconds until a start is over and memory is read."""
_WARM_UP: Final = 200
_FIRST_JOINS: Final = 10


def joins(system: System, count: int) -> dict[str, float]:
    """Times sessions that join a topic, publish nothing and end: ``p50`` and ``p99`` in ms.

    Each is on a connection of its own that has logged in before.  Where publishers are in another
    worker than their topics, this is what a hop or a handover adds to.

    Raises:
        BenchError: one of them failed.
    """
    with system.space.processes() as group:
        command = f"pub --block=false {system.topic('join')}-"
        crowd = Crowd(group, system.writer_endpoint, AES, command)
        crowd.ask(f"join {_FIRST_JOINS}")
        times = [float(word) * _MILLISECONDS for word in crowd.ask(f"join {count}").split()]
    if len(times) != count:
        raise BenchError(f"{len(times)} of {count} have joined")
    percentiles = statistics.quantiles(times, n=100)
    return {"p50": percentiles[49], "p99": percentiles[98]}


def accepts(system: System, count: int) -> dict[str, float]:
    """Logs in so often and returns what `logins` does, and ``hub``: the CPU-ms of accepting alone.

    Raises:
        BenchError: one of them failed.
    """
    if not isinstance(system, ByHop):
        return logins(system, count, AES)
    before = procfs.cpu_seconds(system.pid)
    figures = logins(system, count, AES)
    hub = procfs.cpu_seconds(system.pid) - before
    return {**figures, "hub": hub / count * _MILLISECONDS}


def deaths(system: System, count: int) -> dict[str, float]:
    """Kills a topic's worker so often: ``p50`` and ``max`` ms until a reader elsewhere has ended.

    Raises:
        BenchError: it ended with anything but 74.
    """
    times = []
    for _ in range(count):
        with system.twin() as server:
            server.log_in_once()
            times.append(_die(server))
    return {"p50": statistics.median(times) * _MILLISECONDS, "max": max(times) * _MILLISECONDS}


def _die(server: System) -> float:
    """Has a stream run from worker 1 to a reader in worker 2, kills worker 1 and times the end."""
    if not isinstance(server, ByHop):
        raise TypeError(server)
    topic = server.topic("death")
    with server.space.processes() as group:
        reader = group.ssh(
            server.reader_endpoint(1), server.subscribe(topic), cipher=AES, stdout=subprocess.PIPE
        )
        writer = group.ssh(
            server.reader_endpoint(0),
            server.publish(topic, 1),
            cipher=AES,
            stdin=subprocess.PIPE,
        )
        wait_logged_in([reader, writer])
        writer.stdin.write(b"begun")
        _wait_begun(reader)
        victim = server.worker(1)
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        status = reader.process.wait(STEP_LIMIT)
        elapsed = time.perf_counter() - began
    if status != _BROKEN:
        raise BenchError(f"a reader whose topic's worker was killed ended with {status}")
    return elapsed


def _wait_begun(reader: Client) -> None:
    if not reader.stdout.read(1):
        raise BenchError(f"a reader got nothing: {reader.last_words()}")


def memory(system: System) -> dict[str, float]:
    """Starts a server and returns ``whole``, and where there is a ``hub``, that and a ``worker``.

    In MiB; memory that processes share counts for each of them.
    """
    with system.twin() as server:
        time.sleep(_QUIET)
        first = procfs.resident_bytes(server.pid) / MIB
        if not isinstance(server, ByHop):
            return {"whole": first}
        others = [procfs.resident_bytes(server.worker(number)) / MIB for number in (1, 2)]
    return {"whole": first + sum(others), "hub": first, "worker": statistics.mean(others)}


def links(system: System, amount: int) -> dict[str, float]:
    """Measures the links between workers alone, without a server: see `loadtest.wires`.

    Raises:
        BenchError: one was lost.
    """
    folder = system.space.directory / system.space.new_name("links")
    folder.mkdir()
    wires.prepare(folder)
    figures: dict[str, float] = {}
    for kind in ("unix", "tls"):
        try:
            found = wires.measure(kind, folder, amount)
        except (RuntimeError, TimeoutError) as error:
            raise BenchError(f"{kind}: {error or 'it took too long'}") from error
        figures |= {f"{kind}-{name}": value for name, value in found.items()}
    return figures


def _stream_size(plan: Plan) -> int:
    return plan.size // 2


def _fan_size(plan: Plan) -> int:
    return max(plan.size // _FAN_PART, 1)


def _stream(system: System, plan: Plan, verify: bool) -> dict[str, float]:
    payload = system.space.payload(_stream_size(plan))
    return transfer(system, payload, subscribers=1, cipher=AES, verify=verify)


def _fan(system: System, plan: Plan, verify: bool) -> dict[str, float]:
    payload = system.space.payload(_fan_size(plan))
    found = transfer(system, payload, subscribers=_READERS, cipher=AES, verify=verify)
    return {"cpu": found["cpu"] / _READERS, "rate": found["rate"] * _READERS * MIB / 1e6}


SCALE: Final[Sequence[Case]] = (
    Case(
        "scale-stream",
        Ability.WORKERS,
        (
            Metric("cpu", "1→1, aes128-gcm", "CPU-s/GiB", Goal(of_relay=0.5)),
            Metric("rate", "1→1, aes128-gcm", "MiB/s", digits=0),
        ),
        _stream,
        _stream_size,
    ),
    Case(
        "scale-latency",
        Ability.WORKERS,
        (
            Metric("p50", "64 B, 1→1, p50", "µs", digits=0),
            Metric("p99", "64 B, 1→1, p99", "µs", digits=0),
        ),
        lambda system, plan, _: latency(
            system, subscribers=1, cipher=AES, warm_up=_WARM_UP, messages=plan.messages
        ),
    ),
    Case(
        "scale-links",
        Ability.HUB,
        (
            *(
                Metric(f"{kind}-{size}", f"{title} alone, {size} KiB", "CPU-s/GiB")
                for kind, title in (("unix", "link on a Unix socket"), ("tls", "link on TLS"))
                for size in (32, 128)
            ),
            *(
                Metric(f"{kind}-{part}", f"{title} alone, 64 B one way, {part}", "µs", digits=0)
                for kind, title in (("unix", "link on a Unix socket"), ("tls", "link on TLS"))
                for part in ("p50", "p99")
            ),
        ),
        lambda system, plan, _: links(system, plan.size // 4),
    ),
    Case(
        "scale-join",
        Ability.JOINS,
        (
            Metric("p50", "a session from its request to its end, p50", "ms"),
            Metric("p99", "a session from its request to its end, p99", "ms"),
        ),
        lambda system, plan, _: joins(system, plan.logins // 2),
    ),
    Case(
        "scale-logins",
        Ability.WORKERS,
        (
            Metric("cpu", "login", "CPU-ms"),
            Metric("hub", "of which the hub", "CPU-ms"),
            Metric("rate", "logins", "1/s", digits=0),
        ),
        lambda system, plan, _: accepts(system, plan.logins),
    ),
    Case(
        "scale-death",
        Ability.HUB,
        (
            Metric("p50", "worker killed: a reader elsewhere has 74, p50", "ms", digits=1),
            Metric("max", "worker killed: a reader elsewhere has 74, longest", "ms", digits=1),
        ),
        lambda system, plan, _: deaths(system, plan.deaths),
        effort=Effort.ONCE,
    ),
    Case(
        "scale-fan",
        Ability.JOINS,
        (
            Metric("cpu", f"1→{_READERS}, per GiB delivered", "CPU-s/GiB"),
            Metric("rate", f"1→{_READERS}, delivered in all", "MB/s", digits=0),
        ),
        _fan,
        _fan_size,
        Effort.ONCE_IF_QUICK,
    ),
    Case(
        "scale-start",
        Ability.JOINS,
        (
            Metric("whole", "memory at start", "MiB", digits=1),
            Metric("hub", "of which the hub", "MiB", digits=1),
            Metric("worker", "of which each worker", "MiB", digits=1),
        ),
        lambda system, _, __: memory(system),
        effort=Effort.ONCE_IF_QUICK,
    ),
)
"""These run only if they are asked for."""
