"""Several workers behind one hub, with real processes and the real `ssh`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .server import Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer
    from .processes import Process

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def lane() -> str:
    """The hub never sees what a lane does."""
    return "fast"


def workers_of(server: Server) -> dict[int, int]:
    """The numbers of its workers, and their processes."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    found = {}
    for pid in children:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"worker" in words:
            found[int(words[words.index(b"worker") + 1])] = int(pid)
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def hold(server: Server, count: int) -> list[Process]:
    """Start so many readers, one after the other."""
    readers = []
    for number in range(count):
        readers.append(server.ssh("alice", f"sub t{number}"))
        server.wait_sessions(subscribe=number + 1)
    return readers


def place_of(server: Server, worker: int) -> int:
    """How many connections a worker has, by its own descriptors."""
    pid = workers_of(server)[worker]
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(file.readlink()))
        except OSError:
            continue
    table = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    port = f":{server.port:04X}"
    return sum(
        f"socket:[{line.split()[9]}]" in inodes
        for line in table
        if line.split()[1].endswith(port) and line.split()[3] == "01"
    )


def test_logins_are_spread(start_server: StartServer) -> None:
    """Who logs in goes to the worker that has less to do; each line says which it was."""
    server = start_server(workers=2)
    readers = hold(server, 4)
    assert [place_of(server, number) for number in (1, 2)] == [2, 2]
    for reader in readers:
        reader.interrupt()
    server.wait_empty()
    ends = server.wait_lines("connection ended", 4)
    assert sorted(line["worker"] for line in ends) == [1, 1, 2, 2]


def test_one_says_that_all_serve(start_server: StartServer) -> None:
    """The server tells once where it is, and stops as one process does."""
    server = start_server(workers=2)
    assert len(server.lines("serving")) == 1
    pids = workers_of(server)
    assert sorted(pids) == [1, 2]
    assert server.stop() == Status.OK
    assert all(map(is_gone, pids.values()))
