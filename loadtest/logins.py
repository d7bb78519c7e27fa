"""What a login costs, and what a connection and an idle server hold.

The clients are those of `loadtest.swarm`, in a process of their own.  Each measure of memory takes
a server of its own as well, so that nothing freed earlier hides growth.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from loadtest import procfs
from loadtest.workspace import HOST, STEP_LIMIT, BenchError, Endpoint, Processes, piped

if TYPE_CHECKING:
    from loadtest.servers import System

_FIRST_LOGINS = 20
"""Clients before a count begins: the first ones make modules load and memory pools grow."""
_MEMORY_PAUSE = 1.0
"""Seconds for the last login's garbage to go before memory is read."""
_MILLISECONDS = 1e3
_KIB = 1 << 10
_MIB = 1 << 20


def logins(system: System, count: int, cipher: str) -> dict[str, float]:
    """Logs in so often, leaving at once, and returns ``cpu`` (ms each) and ``rate`` (per s).

    Raises:
        BenchError: one of them failed.
    """
    with system.space.processes() as group:
        swarm = _crowd(group, system, cipher)
        swarm.order("login", _FIRST_LOGINS, _FIRST_LOGINS)
        system.settle()
        cpu_before, started = system.cpu_seconds(), time.perf_counter()
        swarm.order("login", count, count)
        elapsed = time.perf_counter() - started
        system.settle()
        cpu = system.cpu_seconds() - cpu_before
    return {"cpu": cpu / count * _MILLISECONDS, "rate": count / elapsed}


def memory_at_start(system: System) -> dict[str, float]:
    """Starts a server, leaves it alone, and returns ``rss`` in MiB."""
    with system.twin() as server:
        time.sleep(_MEMORY_PAUSE)
        return {"rss": procfs.resident_bytes(server.pid) / _MIB}


def memory_of_idle(system: System, members: int, cipher: str) -> dict[str, float]:
    """Adds so many idle subscribers and returns ``rss``, what each of them holds, in KiB.

    Raises:
        BenchError: not all of them could log in.
    """
    with system.twin() as server, system.space.processes() as group:
        server.log_in_once()
        swarm = _crowd(group, server, cipher)
        swarm.order("hold", _FIRST_LOGINS, _FIRST_LOGINS)
        time.sleep(_MEMORY_PAUSE)
        before = procfs.resident_bytes(server.pid)
        swarm.order("hold", members, _FIRST_LOGINS + members)
        time.sleep(_MEMORY_PAUSE)
        after = procfs.resident_bytes(server.pid)
    return {"rss": (after - before) / members / _KIB}


def _crowd(group: Processes, system: System, cipher: str) -> Crowd:
    remote = system.subscribe(system.space.new_name("idle"))
    return Crowd(group, system.endpoint, cipher, remote)


class Crowd:
    """Our side of a swarm's pipes."""

    def __init__(self, group: Processes, end: Endpoint, cipher: str, remote: str) -> None:
        command = [sys.executable, "-m", "loadtest.swarm", "--host", HOST, "--port", str(end.port)]
        command += ["--user", end.user, "--key", str(end.key), "--cipher", cipher]
        command += ["--command", remote, "--source", end.source]
        process = group.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._stdin = piped(process.stdin)
        self._stdout = piped(process.stdout)

    def ask(self, order: str) -> str:
        """Gives an order, waits until it is done, and returns the answer.

        Raises:
            BenchError: there is none.
        """
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(f"{order}\n".encode())
        ready, _, _ = select.select([self._stdout], [], [], STEP_LIMIT)
        answer = self._stdout.readline().decode().strip() if ready else ""
        if not answer:
            raise BenchError(f"`{order}`: no answer")
        return answer

    def order(self, word: str, number: int, expected: int) -> None:
        """Gives an order that is answered with a number.

        Raises:
            BenchError: it is another number.
        """
        answer = self.ask(f"{word} {number}")
        if answer != str(expected):
            raise BenchError(f"`{word} {number}`: {answer} instead of {expected}")
