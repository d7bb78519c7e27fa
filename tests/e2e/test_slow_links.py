"""Links between machines that are slow, late or reset: nodes on loopback, and a proxy between."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.hostile.proxy import Proxy, Weather

from .detour import DETOUR, PROGRAM
from .payloads import KIB, MIB, noise, sha256
from .processes import HELD, statuses
from .server import Status
from .test_workers import workers_of
from .transfers import MANY, run_transfers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .nodes import Nodes
    from .server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger(__name__)

SHARE: Final = 5
"""Every which one of the transfers beside faults is carried out here."""

SLOW: Final = Weather(latency=0.03, jitter=0.03, slices=16 * KIB, bytes_per_second=2 * MIB)
STALLED: Final = Weather(bytes_per_second=256 * KIB, slices=16 * KIB)
TORN: Final = Weather(latency=0.005, slices=16 * KIB, reset_after=3 * MIB)


class Mesh:
    """Two nodes, and what is between them."""

    def __init__(self, nodes: Nodes, weather: Weather, stack: contextlib.ExitStack) -> None:
        self.first, self.second = (nodes.start(name, program=PROGRAM) for name in ("n1", "n2"))
        for name in ("n1", "n2"):
            port = nodes.ports[name] + 1  # of its one worker
            stack.enter_context(Proxy(port, weather, listen=(DETOUR, port)))


@pytest.fixture
def mesh(request: pytest.FixtureRequest, nodes: Nodes) -> Iterator[Mesh]:
    """Such a mesh, in the weather that the test asks for."""
    with contextlib.ExitStack() as stack:
        yield Mesh(nodes, request.param, stack)


def peak_of_worker(server: Server) -> int:
    """The most resident memory that its one worker has had, in bytes."""
    (pid,) = workers_of(server).values()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * KIB


@pytest.mark.parametrize("mesh", [SLOW], indirect=True)
def test_slow_link_loses_nothing(mesh: Mesh) -> None:
    """Streams arrive whole, in both directions at once."""
    data = noise(4 * MIB)
    readers = [
        server.ssh("alice", f"sub t{number}")
        for number, server in enumerate((mesh.first, mesh.second))
    ]
    for server in (mesh.first, mesh.second):
        server.wait_sessions(subscribe=1)
    writers = [
        server.ssh("alice", f"pub t{number}", stdin=data)
        for number, server in enumerate((mesh.second, mesh.first))
    ]
    assert statuses(*writers, *readers) == [Status.OK] * 4
    assert [sha256(reader.stdout.data) for reader in readers] == [sha256(data)] * 2
    assert ["to 1 subscriber" in writer.text for writer in writers] == [True] * 2


@pytest.mark.parametrize("mesh", [STALLED], indirect=True)
def test_slow_link_holds_up_nobody_else(mesh: Mesh) -> None:
    """While a stream creeps over it, one that does not use it is through, and little is kept."""
    creeping = mesh.second.ssh("alice", "sub slow")
    writer = mesh.first.ssh("alice", "pub -m 1 slow", stdin=HELD)
    writer.write(b"x")
    creeping.wait_stdout(1)
    before = [peak_of_worker(server) for server in (mesh.first, mesh.second)]
    writer.write(noise(64 * MIB))
    data = noise(32 * MIB)
    reader = mesh.first.ssh("alice", "sub fast")
    mesh.first.wait_sessions(subscribe=1)
    fast = mesh.first.ssh("alice", "pub -m 1 fast", stdin=data)
    assert statuses(fast, reader) == [Status.OK] * 2
    assert sha256(reader.stdout.data) == sha256(data)
    assert creeping.running
    assert creeping.stdout.size < 64 * MIB
    after = [peak_of_worker(server) for server in (mesh.first, mesh.second)]
    assert max(new - old for new, old in zip(after, before, strict=True)) < 24 * MIB
    for client in (writer, creeping):
        client.kill()


@pytest.mark.parametrize("mesh", [TORN], indirect=True)
def test_many_transfers_over_links_that_are_reset(mesh: Mesh) -> None:
    """Each is whole or is said to have failed, and every receipt is true."""
    mesh.first.keys.openssh("alice")  # made once, before many want it
    ways = run_transfers([mesh.first.ssh, mesh.second.ssh], range(MANY // SHARE))
    log.info("writer's and reader's status: %s", dict(ways))
    for server in (mesh.first, mesh.second):
        server.wait_empty()
    assert ways["0 and 0"]
    assert ways.total() > ways["0 and 0"]
