"""Several workers behind one hub, with real processes and the real `ssh`."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .clients import bare_environment
from .processes import DEADLINE, HELD, Process, statuses, wait_until
from .server import ROOT, Server, Status, serve_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .clients import KeyRing
    from .conftest import StartServer

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


def hold(server: Server, count: int, *users: str) -> list[Process]:
    """Start so many readers, one after the other, of these users in turn."""
    readers = []
    for number in range(count):
        user = users[number % len(users)]
        readers.append(server.ssh(user, f"sub t{number}"))
        server.wait_sessions(subscribe=number + 1)
    return readers


def end(server: Server, *clients: Process) -> None:
    """Let these go, and return once the server knows."""
    for client in clients:
        client.interrupt()
    server.wait_metric("pipe_connections", 0)


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


@pytest.fixture(scope="module")
def both(keys: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two workers that the tests share which do it no harm, and the last that does."""
    server = Server(
        tmp_path_factory.mktemp("server") / "data",
        keys,
        "fast",
        workers=2,
        max_sessions_per_user=3,
        max_connections_per_user=4,
    )
    yield server
    assert server.stop() == Status.OK
    server.check_log()


def test_logins_are_spread(both: Server) -> None:
    """Who logs in goes to the worker that has less to do; each line says which it was."""
    readers = hold(both, 4, "alice", "bob")
    assert [place_of(both, number) for number in (1, 2)] == [2, 2]
    end(both, *readers)
    ends = both.wait_lines("connection ended", 4)
    assert sorted(line["worker"] for line in ends[-4:]) == [1, 1, 2, 2]


def test_quota_is_for_all_together(both: Server) -> None:
    """A user has as many sessions as one process would allow, on whichever workers they are."""
    readers = hold(both, 3, "alice")
    wait_until(
        lambda: [both.run("alice", "whoami").wait() for _ in range(2)] == [255, 255],
        "both workers to know of the others' sessions",
    )
    end(both, *readers)
    wait_until(lambda: both.run("alice", "whoami").wait() == 0, "room again")


def test_connections_are_counted_by_the_hub(both: Server) -> None:
    """The quota of connections is exact, and who is one too many is told."""
    readers = hold(both, 3, "alice")
    idle = both.ssh("alice", "", options=["-N"])
    both.wait_metric("pipe_connections", 4)
    late = both.run("alice", "whoami")
    assert late.wait() == Status.NO_CONNECTION
    assert "too many connections of this user" in late.text
    both.wait_metric("pipe_refused_total", 1, reason="connections")
    end(both, idle, *readers)


def test_figures_are_those_of_all(both: Server) -> None:
    """Figures are added up; what is about a process says which it is."""
    before = both.metrics().value("pipe_logins_total")
    readers = hold(both, 3, "alice", "bob")
    metrics = both.metrics()
    assert metrics.value("pipe_sessions", mode="subscribe") == 3
    assert metrics.value("pipe_logins_total") == before + 3
    assert metrics.value("pipe_build_info") == 1
    assert metrics.value("pipe_unauthenticated_connections") == 0
    for label in ("hub", "1", "2"):
        assert metrics.value("process_resident_memory_bytes", worker=label) > 0
    assert metrics.value("pipe_up") == 2
    end(both, *readers)


def test_killed_worker_takes_only_its_own_along(both: Server) -> None:
    """Its clients lose their connection; others go on, it comes again, and counters do not fall.

    HTTP is served by one worker, this one, and then by the next.
    """
    server = both
    assert health(server) == HTTPStatus.OK
    readers = hold(server, 4, "alice", "bob")
    before = workers_of(server)
    logins = server.metrics().value("pipe_logins_total")
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: sum(not reader.running for reader in readers) == 2, "two readers to end")
    gone = [reader for reader in readers if not reader.running]
    assert statuses(*gone) == [Status.NO_CONNECTION] * 2
    assert server.run("alice", "whoami").wait() == Status.OK
    server.wait_metric("pipe_up", 2)
    assert workers_of(server)[2] == before[2]
    assert workers_of(server)[1] != before[1]
    server.wait_sessions(subscribe=2)
    assert server.metrics().value("pipe_logins_total") == logins + 1
    (line,) = server.lines("worker ended")
    assert line["worker"] == 1
    assert "SIGKILL" in line["reason"]
    assert health(server) == HTTPStatus.OK
    assert sum(reader.running for reader in readers) == 2
    server.drop_clients()


def test_killed_hub_takes_all_along(start_server: StartServer) -> None:
    """No worker outlives its hub, and clients learn of it at once."""
    server = start_server(workers=2)
    readers = hold(server, 2, "alice")
    pids = workers_of(server)
    server.process.kill()
    assert statuses(*readers) == [Status.NO_CONNECTION] * 2
    wait_until(lambda: all(map(is_gone, pids.values())), "the workers to end")


def test_stop_drains_all(start_server: StartServer) -> None:
    """Who waits is told on each worker, and the server ends with 0."""
    server = start_server(workers=2, drain="10m")
    readers = hold(server, 2, "alice")
    pids = workers_of(server)
    server.terminate()
    assert statuses(*readers) == [Status.SHUTDOWN] * 2
    assert server.process.wait() == Status.OK
    assert sorted(pids) == [1, 2]
    assert all(map(is_gone, pids.values()))
    assert len(server.lines("serving")) == 1
    assert sorted(line.get("worker", 0) for line in server.lines("stopped")) == [0, 1, 2]


def test_second_signal_stops_now(start_server: StartServer) -> None:
    """A stream that still moves is cut when the signal comes again."""
    server = start_server(workers=2, drain="10m")
    member = server.ssh("alice", "pipe -r mine", stdin=HELD)
    member.write(b"x")
    member.wait_stdout(1)
    server.terminate()
    member.wait_stderr("shutting down")
    server.terminate()
    assert member.wait() == Status.SHUTDOWN
    assert server.process.wait() == Status.OK


def test_new_workers_for_new_clients(start_server: StartServer) -> None:
    """SIGHUP lets a stream go on where it is, while who comes is served by a new worker."""
    server = start_server(workers=2, drain="10m")
    old = workers_of(server)
    member = server.ssh("alice", "pipe -r mine", stdin=HELD)
    member.write(b"before")
    member.wait_stdout(6)
    server.process.send_signal(signal.SIGHUP)
    member.wait_stderr("shutting down")
    assert server.run("alice", "whoami").wait() == Status.OK
    (end,) = server.wait_lines("connection ended")
    assert end["worker"] in {3, 4}
    server.process.send_signal(signal.SIGHUP)  # once more, while the first ones drain
    wait_until(
        lambda: {line.get("worker") for line in server.lines("stopping")} >= {3, 4}, "the next ones"
    )

    member.write(b" and after")
    member.wait_stdout(16)
    assert member.output == "before and after"
    assert set(workers_of(server)) > {5, 6}
    member.interrupt()
    member.wait()
    wait_until(lambda: set(workers_of(server)) == {5, 6}, "the others to end")
    wait_until(lambda: all(map(is_gone, old.values())), "their processes to be gone")


@pytest.mark.slow
def test_new_workers_although_old_ones_stand_still(start_server: StartServer) -> None:
    """What one worker does for all is done by a new one, whatever has become of the old one."""
    server = start_server(workers=2)
    old = workers_of(server)
    for pid in old.values():
        os.kill(pid, signal.SIGSTOP)
    server.process.send_signal(signal.SIGHUP)
    for number in (3, 4):
        server.wait_metric("pipe_up", 1, worker=str(number))
    wait_until(lambda: server.run("alice", "webhooks").wait() == Status.OK, "a new worker's answer")
    assert set(workers_of(server)) > set(old)
    for pid in old.values():
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: all(map(is_gone, old.values())), "the old workers to end")


def health(server: Server) -> int:
    """Ask by HTTP whether it is well."""
    connection = http.client.HTTPConnection("127.0.0.1", server.web_port, timeout=DEADLINE)
    connection.request("GET", "/healthz")
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("setting", ["port", "web_port", "metrics_port"])
def test_port_is_taken(tmp_path: Path, setting: str) -> None:
    """One line says so, and the status is that of any start that fails."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"port": 0, "web_port": 0, "metrics_port": 0, setting: port}
        text = fail_to_start(tmp_path, **ports)
    assert f"127.0.0.1:{port}" in text


def test_database_is_bad(tmp_path: Path) -> None:
    """What the first worker cannot use is told once."""
    (tmp_path / "pipe.db").write_bytes(b"no database" * 100)
    assert "database" in fail_to_start(tmp_path, port=0, web_port=0, metrics_port=0)


def test_data_folder_is_in_use(start_server: StartServer) -> None:
    """A second server says so and leaves the first alone; users can be added beside it."""
    server = start_server(workers=2)
    text = fail_to_start(server.data_dir, port=0, web_port=0, metrics_port=0)
    assert f"another server has it (process {server.pid}); stop that one, or choose" in text
    words = ["user", "add", "zoe", "--data-dir", str(server.data_dir)]
    added = Process(
        [sys.executable, "-m", "pipe", *words], environment=bare_environment(), directory=ROOT
    )
    assert added.wait() == Status.OK, added
    server.process.send_signal(signal.SIGHUP)  # new workers may have what the old ones have
    server.process.wait_stderr("replacing workers")
    assert server.run("alice", "whoami").wait() == Status.OK
    server.process.kill()
    server.process.wait()
    server.restart()


def fail_to_start(data_dir: Path, **settings: int) -> str:
    """Start a server that cannot start, and return what it says."""
    server = Process(
        serve_command(data_dir=data_dir, workers=3, **settings),
        environment=bare_environment(),
        directory=ROOT,
    )
    assert server.wait() == Status.SHUTDOWN
    (line,) = server.lines
    return line
