"""A machine of several is upgraded while streams cross: its workers are replaced, or all of it."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from .payloads import MIB, noise, sha256
from .processes import HELD, statuses, wait_until
from .server import Status
from .test_workers import workers_of
from .transfers import run_transfers

if TYPE_CHECKING:
    from .nodes import Nodes
    from .processes import Process
    from .server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger(__name__)

TRANSFERS = 60


class Crossing:
    """Streams between two machines, in both directions, that have begun."""

    def __init__(self, *servers: Server) -> None:
        self._data = noise(4 * MIB)
        self._readers: list[Process] = []
        self._writers: list[Process] = []
        for number, (reads, writes) in enumerate((servers, servers[::-1])):
            reader = reads.ssh("alice", f"sub crossing{number}")
            reads.wait_sessions(subscribe=1)
            writer = writes.ssh("alice", f"pub crossing{number}", stdin=HELD)
            writer.write(self._data)
            reader.wait_stdout(len(self._data))
            self._readers.append(reader)
            self._writers.append(writer)

    def finish(self) -> None:
        """They go on where they are, and end well."""
        for writer in self._writers:
            writer.write(self._data)
            writer.close_stdin()
        assert statuses(*self._writers, *self._readers) == [Status.OK] * 4
        whole = sha256(self._data * 2)
        assert [sha256(reader.stdout.data) for reader in self._readers] == [whole] * 2


def check_both_ways(first: Server, second: Server, topic: str) -> None:
    """New streams get from each to the other."""
    for reads, writes in ((first, second), (second, first)):
        reader = reads.ssh("alice", f"sub {topic}")
        writer = writes.ssh("alice", f"pub -m 1 {topic}", stdin=b"new")
        assert statuses(writer, reader) == [Status.OK] * 2
        assert reader.output == "new"


def test_workers_are_replaced(nodes: Nodes) -> None:
    """On SIGHUP streams end in the old worker, new ones are the new one's, and nobody notices."""
    first, second = nodes.start("n1"), nodes.start("n2")
    crossing = Crossing(first, second)
    (old,) = workers_of(first)
    first.process.send_signal(signal.SIGHUP)
    wait_until(lambda: set(workers_of(first)) > {old}, "a new worker")
    wait_until(lambda: is_served_by_another(first, old), "its first client")
    check_both_ways(first, second, "beside")
    crossing.finish()
    wait_until(lambda: old not in workers_of(first), "the old worker to end")
    check_both_ways(first, second, "after")


def test_idle_readers_of_topics_elsewhere(nodes: Nodes) -> None:
    """Who waits on a topic that is at home elsewhere is told so at once, and a worker ends."""
    first, second = nodes.start("n1"), nodes.start("n2", drain="10m")
    keeper = first.ssh("alice", "sub -k t")
    first.wait_sessions(subscribe=1)
    reader = second.ssh("alice", "sub -k t")
    first.wait_sessions(subscribe=2)
    (old,) = workers_of(second)
    second.process.send_signal(signal.SIGHUP)
    assert reader.wait() == Status.SHUTDOWN
    assert "shutting down" in reader.text
    wait_until(lambda: old not in workers_of(second), "the old worker to end")
    assert keeper.running


def is_served_by_another(server: Server, old: int) -> bool:
    """Whether who comes now is not served by the old worker any more, and well."""
    count = len(server.lines("connection ended"))
    if server.run("alice", "whoami").wait() != Status.OK:  # it was slow to log in at the old one
        return False
    lines: list[dict[str, int]] = server.wait_lines("connection ended", count + 1)
    return lines[-1]["worker"] != old


def test_machine_is_restarted(nodes: Nodes) -> None:
    """It lets streams end that move, and comes back under its name; then new ones cross again."""
    first, second = nodes.start("n1"), nodes.start("n2")
    crossing = Crossing(first, second)
    first.terminate()
    first.wait_lines("stopping", 2)  # of the hub, and of its worker
    crossing.finish()
    assert first.process.wait() == Status.OK
    second.wait_lines("node is gone")
    first.restart()
    second.wait_lines("node is there", 1)
    first.wait_lines("node is there")
    check_both_ways(first, second, "after")


def test_rolling_restart_beside_transfers(nodes: Nodes) -> None:
    """One after the other is restarted: each transfer is whole or is said to have failed."""
    servers = [nodes.start(name) for name in ("n1", "n2")]
    servers[0].keys.openssh("alice")  # made once, before many want it
    over = threading.Event()

    def restart_all() -> None:
        while not over.is_set():
            for server in servers:
                server.terminate()
                assert server.process.wait() == Status.OK
                server.restart()
                server.wait_lines("node is there")

    thread = threading.Thread(target=restart_all)
    thread.start()
    try:
        ways = run_transfers([server.ssh for server in servers], range(TRANSFERS))
    finally:
        over.set()
        thread.join()
    log.info("writer's and reader's status: %s", dict(ways))
    check_both_ways(servers[0], servers[1], "after")
    for server in servers:
        server.wait_empty()
    assert ways["0 and 0"]
