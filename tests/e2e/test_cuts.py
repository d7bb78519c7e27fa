"""Gigabytes that arrive whole although either side loses its connection again and again.

The functions of ``help resume`` carry them, over what a server can consist of: each data path, two
workers, two machines; and connections are lost in every way: with a reset, without a word, because
`ssh` was killed, because the network is down, because the client comes back with another address.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.hostile.namespaces import NEAR_ADDRESS, Cable
from tests.hostile.proxy import Proxy, Route, Weather

from .nodes import Nodes
from .payloads import GIB, write_blob
from .processes import Process, statuses, wait_until
from .resuming import Desk, losses
from .server import HOPPING, MOVING, Server, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.postgres import Postgres

    from .clients import KeyRing
    from .conftest import StartServer
    from .payloads import Blob

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger(__name__)

SIZE: Final = 2 * GIB
CUTS: Final = 20

NOTICES: Final = ("-o", "ServerAliveInterval=1")
"""An option of `ssh`: it notices soon what has no end."""

GIVES_UP: Final = "2s"
"""The server's `stall-timeout`: so does the server."""

FAST_LANE: Final = pytest.mark.parametrize("lane", ["fast"], scope="module")


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blob]:
    """What is carried."""
    blob = write_blob(tmp_path_factory.mktemp("blob") / "film", SIZE)
    yield blob
    blob.path.unlink()


class Show:
    """A file on its way, and the time that it takes."""

    def __init__(self, blob: Blob, receiver: Desk, sender: Desk) -> None:
        self._blob = blob
        self._begun = time.monotonic()
        self._copy = receiver.folder / "copy"
        self.reader = receiver.start("pipe_get film copy")
        self.reader.wait_stderr("begins with byte 0 of stream")  # at whichever server
        self.writer = sender.start(f"pipe_send {blob.path} film")

    def carry(self, cut: Callable[[int], None]) -> None:
        """Cut connections `CUTS` times, whenever so much more has arrived, and compare the files.

        Args:
            cut: is given the number of the cut, and returns once that is noticed.
        """
        for number in range(CUTS):
            due = self._blob.size * (number + 1) // (CUTS + 1)
            wait_until(lambda due=due: self._copy.stat().st_size >= due, f"{due} bytes")  # type: ignore[misc]
            cut(number)
        assert statuses(self.writer, self.reader) == [Status.OK] * 2
        seconds = time.monotonic() - self._begun
        with self._copy.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == self._blob.sha256
        self._copy.unlink()
        lost = f"{losses(self.writer)} and {losses(self.reader)}"
        log.info("%d bytes in %.0f s; connections lost: %s", self._blob.size, seconds, lost)


def make_lost(cut: Callable[[], None], *processes: Process) -> None:
    """Cut connections, again if one of them was not open just then, until all have noticed."""
    before = [losses(process) for process in processes]

    def are_lost() -> bool:
        if all(map(int.__lt__, before, map(losses, processes))):
            return True
        cut()
        return False

    wait_until(are_lost, "lost connections")


class Side(NamedTuple):
    """One side of a transfer, and the bad line between it and the server."""

    desk: Desk
    proxy: Proxy

    def cut(self, number: int, process: Process) -> None:
        """Cut its connection in one of three ways."""
        make_lost((self.proxy.reset, self.proxy.freeze, self.desk.kill_ssh)[number % 3], process)


def carry_by_routes(blob: Blob, folder: Path, *sides: tuple[Server, Sequence[Route]]) -> None:
    """Carry it over two bad lines, both of which are cut each time.

    Args:
        blob: the file.
        folder: for what both sides need.
        sides: the reader's and the writer's server, and the ways that lead there.
    """
    with contextlib.ExitStack() as stack:
        made = []
        for name, (server, routes) in zip("ba", sides, strict=True):
            proxy = stack.enter_context(Proxy(server.port, Weather(), routes))
            made.append(Side(Desk(server, folder / name, "dash", proxy.port, NOTICES), proxy))
        reader, writer = made
        show = Show(blob, reader.desk, writer.desk)

        def cut(number: int) -> None:
            writer.cut(number, show.writer)
            reader.cut(number, show.reader)

        show.carry(cut)
        assert min(losses(show.writer), losses(show.reader)) >= CUTS


def test_one_process(start_server: StartServer, tmp_path: Path, blob: Blob) -> None:
    """On either data path."""
    server = start_server(stall_timeout=GIVES_UP, workers=1)
    carry_by_routes(blob, tmp_path, (server, ()), (server, ()))


@FAST_LANE  # nobody is moved on the other one
@pytest.mark.parametrize("program", [HOPPING, MOVING], ids=["hop", "move"])
def test_two_workers(start_server: StartServer, tmp_path: Path, blob: Blob, program: str) -> None:
    """Each connection comes to the other worker than the last one: where the topic is, or not."""
    server = start_server(program=program, workers=2, stall_timeout=GIVES_UP)
    routes = [Route(server.port, f"127.0.1.{worker}") for worker in (1, 2)]
    carry_by_routes(blob, tmp_path, (server, routes), (server, routes[::-1]))
    if program == MOVING:
        assert server.lines("connection taken over")


@pytest.fixture
def nodes(tmp_path: Path, keys: KeyRing, postgres: Postgres) -> Iterator[tuple[Server, Server]]:
    """Two machines."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    nodes = Nodes(folder, keys, postgres.new_database())
    yield nodes.start("n1", stall_timeout=GIVES_UP), nodes.start("n2", stall_timeout=GIVES_UP)
    nodes.close()


def test_two_machines(nodes: tuple[Server, Server], tmp_path: Path, blob: Blob) -> None:
    """The reader at one, the publisher at the other."""
    first, second = nodes
    carry_by_routes(blob, tmp_path, (first, ()), (second, ()))


def test_machines_behind_a_balancer(
    nodes: tuple[Server, Server], tmp_path: Path, blob: Blob
) -> None:
    """Each connection comes to the other machine than the last one."""
    routes = [Route(node.port) for node in nodes]
    carry_by_routes(blob, tmp_path, (nodes[0], routes), (nodes[1], routes[::-1]))


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A network that can be cut, with the test at its near end."""
    try:
        with Cable().laid() as cable:
            yield cable
    except PermissionError as error:
        pytest.skip(f"no network namespaces here: {error}")


@FAST_LANE  # the network's ends are the kernel's
@pytest.mark.parametrize("afar", ["reader", "writer", "both"])
def test_cable(
    cable: Cable, start_server: StartServer, tmp_path: Path, blob: Blob, afar: str
) -> None:
    """The kernel's network is cut below one side or both, which come back as they were or moved."""
    server = start_server(host="0.0.0.0", public_host=NEAR_ADDRESS, stall_timeout=GIVES_UP)  # noqa: S104

    def desk(name: str) -> Desk:
        if afar not in {name, "both"}:
            return Desk(server, tmp_path / name)
        return Desk(
            server,
            tmp_path / name,
            options=NOTICES,
            host=NEAR_ADDRESS,
            within=cable.from_afar,
        )

    show = Show(blob, desk("reader"), desk("writer"))
    cut_off = {"reader": [show.reader], "writer": [show.writer]}
    processes = cut_off.get(afar, [show.reader, show.writer])

    def cut(number: int) -> None:
        make_lost(cable.pull, *processes)
        if number % 2:
            cable.renumber()
        cable.plug_in()

    show.carry(cut)
    assert min(map(losses, processes)) >= CUTS
