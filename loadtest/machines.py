"""Measures two machines that are one service: ``python -m loadtest.machines [RUNS]``.

Two nodes on this machine, of one worker each, with a PostgreSQL of their own.  A topic is at home
in the first node; a reader and a publisher of it are clients of the second.  What is timed:

    hangs    from when all processes of the first node are stopped until both clients have ended
    killed   the same, from when its worker is killed
    sums     from when a client asks the first node for a session until the second counts it

Clients have to end with 74.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncssh

from tests.e2e import clients
from tests.e2e.clients import KeyRing
from tests.e2e.nodes import Nodes
from tests.e2e.processes import HELD, statuses, wait_until
from tests.e2e.server import PIPE, Server, Status
from tests.e2e.test_workers import workers_of
from tests.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUNS: Final = 10
_MILLISECONDS: Final = 1e3
_LIMIT: Final = 60.0
_QUIET: Final = 2.0
"""Seconds until all is known that was before."""


class Pair:
    """Both nodes, with what clients of them need.

    Args:
        nodes: starts them.
        keys: of the clients.
    """

    def __init__(self, nodes: Nodes, keys: KeyRing) -> None:
        self.first = nodes.start("n1", program=PIPE)
        self.second = nodes.start("n2", program=PIPE)
        self._key = str(keys.openssh("alice"))
        self._runs = 0
        for node in (self.first, self.second):
            node.introduce("alice")

    def time_end(self, harm: Callable[[Server], None], mend: Callable[[Server], None]) -> float:
        """Return after how many seconds a reader and a publisher elsewhere have both ended.

        Args:
            harm: is done to the first node.
            mend: makes it good again.
        """
        self._runs += 1
        topic = f"run{self._runs}"
        keeper = self.first.ssh("alice", f"sub -k {topic}")
        self.first.wait_sessions(subscribe=1)
        reader = self.second.ssh("alice", f"sub {topic}")
        self.first.wait_sessions(subscribe=2)
        writer = self.second.ssh("alice", f"pub {topic}", stdin=HELD)
        writer.write(b"begun")
        reader.wait_stdout(5)
        began = time.perf_counter()
        harm(self.first)
        ends = statuses(reader, writer)
        elapsed = time.perf_counter() - began
        mend(self.first)
        if ends != [Status.BROKEN] * 2:
            raise RuntimeError(f"clients ended with {ends}: {reader} {writer}")
        keeper.kill()
        self.first.wait_sessions(subscribe=0)
        wait_until(self._is_whole, "both to be one service again")
        return elapsed

    def _is_whole(self) -> bool:
        """Whether a stream goes from the second node to the first."""
        self._runs += 1
        reader = self.first.ssh("alice", f"sub run{self._runs}")
        self.first.wait_sessions(subscribe=1)
        writer = self.second.run("alice", f"pub -t 2s run{self._runs}", b"whole")
        if writer.wait() == Status.OK:
            return reader.wait() == Status.OK
        reader.kill()
        self.first.wait_sessions(subscribe=0)
        return False

    async def time_sums(self, runs: int) -> list[float]:
        """Return, so often, after how many seconds the other node knows of a session."""
        times = []
        async with (
            await self._connect(self.first) as here,
            await self._connect(self.second) as there,
            asyncio.timeout(_LIMIT * runs),
        ):
            await asyncio.sleep(_QUIET)
            before = await _count(there)
            for _ in range(runs):
                began = time.perf_counter()
                session = await here.create_process("sub -k sums")
                while await _count(there) == before:
                    pass
                times.append(time.perf_counter() - began)
                session.close()
                while await _count(there) != before:
                    pass
        return times

    async def _connect(self, node: Server) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            clients.HOST,
            node.port,
            username="alice",
            client_keys=[self._key],
            known_hosts=None,
            config=[],
        )


async def _count(connection: asyncssh.SSHClientConnection) -> int:
    """How many sessions the user has on both nodes, as one of them says, with the one that asks."""
    answer = await connection.run("whoami --json", check=True)
    count: int = json.loads(str(answer.stdout))["used"]["sessions"]
    return count


def stop(node: Server) -> None:
    """Stop all processes of a node, as a machine that hangs."""
    for pid in node.pids:
        os.kill(pid, signal.SIGSTOP)


def go_on(node: Server) -> None:
    """Continue them."""
    for pid in node.pids:
        os.kill(pid, signal.SIGCONT)


def kill_worker(node: Server) -> None:
    """Kill the only worker."""
    (worker,) = workers_of(node).values()
    os.kill(worker, signal.SIGKILL)


def wait_worker(node: Server) -> None:
    """Wait until there is another one."""
    wait_until(lambda: node.metrics().value("pipe_up") == 1, "another worker")


def show(what: str, times: Sequence[float]) -> None:
    """Print the median and the longest."""
    median, worst = statistics.median(times) * _MILLISECONDS, max(times) * _MILLISECONDS
    print(f"{what}: median {median:.0f} ms, longest {worst:.0f} ms, of {len(times)}", flush=True)


def main() -> None:
    """Measure all of it."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    print("load average before:", *os.getloadavg())
    with tempfile.TemporaryDirectory() as name, Postgres() as postgres:
        folder = Path(name)
        keys = KeyRing(folder)
        nodes = Nodes(folder, keys, postgres.new_database())
        try:
            pair = Pair(nodes, keys)
            show("sums", asyncio.run(pair.time_sums(runs)))
            show("killed", [pair.time_end(kill_worker, wait_worker) for _ in range(runs)])
            show("hangs", [pair.time_end(stop, go_on) for _ in range(runs)])
        finally:
            nodes.close()
    print("load average after:", *os.getloadavg())


if __name__ == "__main__":
    main()
