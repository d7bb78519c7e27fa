"""Streams between clients of two workers: by a hop, and by moving the client; the real `ssh`."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from .payloads import MIB, noise, sha256
from .processes import HELD, statuses, wait_until
from .server import HOPPING, MOVING, Server, Status
from .test_workers import workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .clients import KeyRing
    from .conftest import StartServer
    from .processes import Process

pytestmark = pytest.mark.e2e

BEYOND_BUFFERS = 16 * MIB
"""More than there is room for on the way, so that a stream has not ended when it is looked at."""


@pytest.fixture(scope="module")
def lane() -> str:
    """A client on asyncssh's data path is never moved."""
    return "fast"


@pytest.fixture(scope="module", params=[HOPPING, MOVING], ids=["hop", "move"])
def program(request: pytest.FixtureRequest) -> str:
    """Whether clients stay where they are, or move to where their topics are at home."""
    value: str = request.param
    return value


@pytest.fixture(scope="module")
def shared(
    program: str, keys: KeyRing, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """What `spread` is."""
    server = Server(
        tmp_path_factory.mktemp("server") / "data",
        keys,
        "fast",
        program,
        workers=2,
        rekey_bytes="4MiB",
    )
    yield server
    assert server.stop() == Status.OK
    server.check_log()


@pytest.fixture
def spread(shared: Server) -> Iterator[Server]:
    """A server of two workers, whose clients and topics are where the test wants them.

    The tests share it that do it no harm.
    """
    yield shared
    shared.drop_clients()
    shared.wait_empty()


@pytest.fixture
def alone(program: str, start_server: StartServer) -> Server:
    """One for one test."""
    return start_server(program=program, workers=2)


def at(worker: int) -> tuple[str, ...]:
    """The options of a client that is given to a worker."""
    return "-o", f"BindAddress=127.0.1.{worker}"


def read(server: Server, worker: int, command: str, count: int = 1) -> Process:
    """Start a reader at a worker, and return once there are so many on their topics."""
    reader = server.ssh("alice", command, options=at(worker))
    server.wait_sessions(subscribe=count)
    return reader


def moves(server: Server) -> int:
    """How many clients have gone from one worker to another."""
    return len(server.lines("connection taken over"))


@pytest.mark.parametrize(("reads", "writes"), [(1, 2), (2, 1), (2, 2)])
def test_everybody_reaches_everybody(spread: Server, program: str, reads: int, writes: int) -> None:
    """Wherever both are, a stream arrives whole, and both end well; so it does the next time."""
    before, far = moves(spread), (reads != 1) + (writes != 1)
    for count in (1, 2):
        sub = read(spread, reads, "sub at1")
        pub = spread.ssh("alice", "pub at1", stdin=b"hello", options=at(writes))
        assert statuses(pub, sub) == [Status.OK] * 2
        assert sub.output == "hello"
        assert "sent 5 bytes to 1 subscriber" in pub.text
        spread.wait_empty()
        wanted = before + (far * count if program == MOVING else 0)
        wait_until(lambda wanted=wanted: moves(spread) == wanted, f"{wanted} moves")  # type: ignore[misc]


def test_pipe_both_ways(spread: Server) -> None:
    """Two `pipe`s hear each other, and who joins a topic that is elsewhere is told its name."""
    first = spread.ssh("alice", "pipe at2", stdin=HELD, options=at(1))
    spread.wait_sessions(pipe=1)
    second = spread.ssh("alice", "pipe at2", stdin=HELD, options=at(2))
    spread.wait_sessions(pipe=2)
    first.write(b"ping")
    second.wait_stdout(4)
    second.write(b"pong")
    first.wait_stdout(4)
    first.close_stdin()
    second.close_stdin()
    assert statuses(first, second) == [Status.OK] * 2
    assert (first.output, second.output) == ("pong", "ping")


def test_readers_on_both(spread: Server) -> None:
    """64 MiB reach readers in both workers whole, for whom their publisher has waited."""
    data = noise(64 * MIB)
    pub = spread.ssh("alice", "pub -m 2 at1", stdin=HELD, options=at(2))
    readers = [read(spread, worker, "sub at1", worker) for worker in (1, 2)]
    pub.write(data)
    pub.close_stdin()
    assert statuses(pub, *readers) == [Status.OK] * 3
    assert [sha256(reader.stdout.data) for reader in readers] == [sha256(data)] * 2
    assert "to 2 subscribers" in pub.text


def test_keys_are_exchanged(spread: Server) -> None:
    """Clients and server go on with new keys, wherever they are by then."""
    data = noise(8 * MIB)
    limit = ("-o", "RekeyLimit=1M")
    sub = spread.ssh("alice", "sub at1", options=(*at(2), *limit))
    spread.wait_sessions(subscribe=1)
    pub = spread.ssh("alice", "pub at1", stdin=data, options=(*at(2), *limit))
    assert statuses(pub, sub) == [Status.OK] * 2
    assert sha256(sub.stdout.data) == sha256(data)


def test_worker_dies(alone: Server, program: str) -> None:
    """Who is in it loses the connection; who is on its topics elsewhere is told; others go on.

    Its topics' names are free again at once.
    """
    own = read(alone, 1, "sub at1")
    pub = alone.ssh("alice", "pub at1", stdin=HELD, options=at(2))
    apart = read(alone, 2, "sub at2-b", 2)
    pub.write(b"some")
    own.wait_stdout(4)
    os.kill(workers_of(alone)[1], signal.SIGKILL)
    lost = Status.NO_CONNECTION if program == MOVING else Status.BROKEN
    assert statuses(own, pub) == [Status.NO_CONNECTION, lost]
    if program == HOPPING:
        assert "the stream broke: worker 1 is gone" in pub.text
    alone.wait_sessions(subscribe=1)
    again = read(alone, 2, "sub at1", 2)
    late = alone.ssh("alice", "pub at1", stdin=b"new", options=at(2))
    assert statuses(late, again) == [Status.OK] * 2
    assert again.output == "new"
    assert apart.running


def test_clients_of_a_dead_worker(start_server: StartServer) -> None:
    """A publisher elsewhere waits on for its other readers, and ends well with them."""
    spread = start_server(program=HOPPING, workers=2)
    pub = spread.ssh("alice", "pub -m 2 at2", stdin=HELD, options=at(2))
    far, near = (read(spread, worker, "sub at2", worker) for worker in (1, 2))
    pub.write(b"some")
    far.wait_stdout(4)
    near.wait_stdout(4)
    os.kill(workers_of(spread)[1], signal.SIGKILL)
    assert far.wait() == Status.NO_CONNECTION
    pub.write(b" more")
    pub.close_stdin()
    assert statuses(pub, near) == [Status.OK] * 2
    assert near.output == "some more"


def test_worker_stands_still(start_server: StartServer) -> None:
    """After 3 s who is on its topics elsewhere is told; continued, it brings nothing back."""
    spread = start_server(program=HOPPING, workers=2)
    own = read(spread, 1, "sub at1")
    pub = spread.ssh("alice", "pub at1", stdin=HELD, options=at(2))
    pub.write(b"some")
    own.wait_stdout(4)
    pid = workers_of(spread)[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert pub.wait() == Status.BROKEN
        assert "the stream broke: worker 1 is gone" in pub.text
    finally:
        os.kill(pid, signal.SIGCONT)
    assert own.wait() == Status.BROKEN, "its publisher is gone, and had not sent its end"
    assert own.output == "some"
    spread.wait_empty()
    again = read(spread, 1, "sub at1")
    late = spread.ssh("alice", "pub at1", stdin=b"new", options=at(2))
    assert statuses(late, again) == [Status.OK] * 2
    assert again.output == "new"
    spread.wait_empty()


def test_worker_stands_still_for_a_moment(start_server: StartServer) -> None:
    """A stream waits for a worker that soon goes on, and is whole."""
    spread = start_server(program=HOPPING, workers=2)
    own = read(spread, 1, "sub at1")
    pub = spread.ssh("alice", "pub at1", stdin=HELD, options=at(2))
    pub.write(b"some")
    own.wait_stdout(4)
    pid = workers_of(spread)[1]
    os.kill(pid, signal.SIGSTOP)
    pub.write(noise(BEYOND_BUFFERS))
    pub.close_stdin()
    os.kill(pid, signal.SIGCONT)
    assert statuses(pub, own) == [Status.OK] * 2
    assert own.stdout.size == 4 + BEYOND_BUFFERS


def test_drain(alone: Server) -> None:
    """A stream across workers that moves may finish; who waits is told, on both."""
    sub = read(alone, 2, "sub at1")
    pub = alone.ssh("alice", "pub at1", stdin=HELD, options=at(1))
    pub.write(b"some")
    sub.wait_stdout(4)
    waits = [read(alone, worker, "sub at1-b", 1 + worker) for worker in (1, 2)]
    alone.terminate()
    assert statuses(*waits) == [Status.SHUTDOWN] * 2
    pub.write(b" more")
    pub.close_stdin()
    assert statuses(pub, sub) == [Status.OK] * 2
    assert sub.output == "some more"
    assert alone.process.wait() == Status.OK


def test_quota_counts_who_moves_once(start_server: StartServer) -> None:
    """A user with as many connections and sessions as allowed may have each of them moved."""
    spread = start_server(
        program=MOVING, workers=2, max_connections_per_user=2, max_sessions_per_user=2
    )
    sub = read(spread, 2, "sub at1")
    pub = spread.ssh("alice", "pub at1", stdin=HELD, options=at(2))
    pub.write(b"some")
    sub.wait_stdout(4)
    spread.wait_lines("connection taken over", 2)
    late = spread.ssh("alice", "whoami", options=at(2))
    assert late.wait() == Status.NO_CONNECTION
    pub.close_stdin()
    assert statuses(pub, sub) == [Status.OK] * 2
    wait_until(lambda: spread.run("alice", "whoami").wait() == Status.OK, "room again")
    metrics = spread.metrics()
    assert metrics.value("pipe_unauthenticated_connections") == 0


def test_early_input_comes_first(spread: Server) -> None:
    """What a client sends before it is moved, or relayed, comes before the rest."""
    data = noise(BEYOND_BUFFERS)
    pub = spread.ssh("alice", "pub at1", stdin=data, options=at(2))
    spread.wait_waiting()
    sub = spread.ssh("alice", "sub at1", options=at(2))  # it may be through before anybody looks
    assert statuses(pub, sub) == [Status.OK] * 2
    assert sha256(sub.stdout.data) == sha256(data)
