"""Streams between clients of two workers: by a hop, and by moving the client; the real `ssh`."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from .payloads import MIB, noise, sha256
from .processes import HELD, statuses, wait_until
from .server import HOPPING, MOVING, Status
from .test_workers import workers_of

if TYPE_CHECKING:
    from .conftest import StartServer
    from .processes import Process
    from .server import Server

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


@pytest.fixture
def spread(program: str, start_server: StartServer) -> Server:
    """A server of two workers, whose clients and topics are where the test wants them."""
    return start_server(program=program, workers=2)


def at(worker: int) -> tuple[str, ...]:
    """The options of a client that is given to a worker."""
    return "-o", f"BindAddress=127.0.1.{worker}"


def read(server: Server, worker: int, command: str, user: str = "alice") -> Process:
    """Start a reader at a worker, and return once it is on its topic."""
    before = server.metrics().value("pipe_sessions", mode="subscribe")
    reader = server.ssh(user, command, options=at(worker))
    server.wait_sessions(subscribe=int(before) + 1)
    return reader


def moves(server: Server) -> int:
    """How many clients have gone from one worker to another."""
    return len(server.lines("connection taken over"))


@pytest.mark.parametrize(("reads", "writes"), [(1, 2), (2, 1), (2, 2)])
def test_everybody_reaches_everybody(spread: Server, program: str, reads: int, writes: int) -> None:
    """Wherever both are, a stream arrives whole, and both end well; so it does the next time."""
    for count in (1, 2):
        sub = read(spread, reads, "sub at1")
        pub = spread.ssh("alice", "pub at1", stdin=b"hello", options=at(writes))
        assert statuses(pub, sub) == [Status.OK] * 2
        assert sub.output == "hello"
        assert "sent 5 bytes to 1 subscriber" in pub.text
        spread.wait_empty()
        far = (reads != 1) + (writes != 1)
        assert moves(spread) == (far * count if program == MOVING else 0)


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
    readers = [read(spread, worker, "sub at1") for worker in (1, 2)]
    pub.write(data)
    pub.close_stdin()
    assert statuses(pub, *readers) == [Status.OK] * 3
    assert [sha256(reader.stdout.data) for reader in readers] == [sha256(data)] * 2
    assert "to 2 subscribers" in pub.text


def test_keys_are_exchanged(program: str, start_server: StartServer) -> None:
    """Clients and server go on with new keys, wherever they are by then."""
    spread = start_server(program=program, workers=2, rekey_bytes="1MiB")
    data = noise(8 * MIB)
    limit = ("-o", "RekeyLimit=1M")
    sub = spread.ssh("alice", "sub at1", options=(*at(2), *limit))
    spread.wait_sessions(subscribe=1)
    pub = spread.ssh("alice", "pub at1", stdin=data, options=(*at(2), *limit))
    assert statuses(pub, sub) == [Status.OK] * 2
    assert sha256(sub.stdout.data) == sha256(data)


def test_worker_dies(spread: Server, program: str) -> None:
    """Who is in it loses the connection; who is on its topics elsewhere is told; others go on.

    Its topics' names are free again at once.
    """
    own = read(spread, 1, "sub at1")
    pub = spread.ssh("alice", "pub at1", stdin=HELD, options=at(2))
    apart = read(spread, 2, "sub at2-b")
    pub.write(b"some")
    own.wait_stdout(4)
    os.kill(workers_of(spread)[1], signal.SIGKILL)
    lost = Status.NO_CONNECTION if program == MOVING else Status.BROKEN
    assert statuses(own, pub) == [Status.NO_CONNECTION, lost]
    if program == HOPPING:
        assert "the stream broke: worker 1 is gone" in pub.text
    again = read(spread, 2, "sub at1")
    late = spread.ssh("alice", "pub at1", stdin=b"new", options=at(2))
    assert statuses(late, again) == [Status.OK] * 2
    assert again.output == "new"
    assert apart.running


def test_clients_of_a_dead_worker(start_server: StartServer) -> None:
    """A publisher elsewhere waits on for its other readers, and ends well with them."""
    spread = start_server(program=HOPPING, workers=2)
    pub = spread.ssh("alice", "pub -m 2 at2", stdin=HELD, options=at(2))
    far, near = read(spread, 1, "sub at2"), read(spread, 2, "sub at2")
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
    again = read(spread, 1, "sub at1")
    late = spread.ssh("alice", "pub at1", stdin=b"new", options=at(2))
    assert statuses(late, again) == [Status.OK] * 2
    assert again.output == "new"
    spread.wait_empty()


def test_drain(spread: Server) -> None:
    """A stream across workers that moves may finish; who waits is told, on both."""
    sub = read(spread, 2, "sub at1")
    pub = spread.ssh("alice", "pub at1", stdin=HELD, options=at(1))
    pub.write(b"some")
    sub.wait_stdout(4)
    waits = [read(spread, worker, "sub at1-b") for worker in (1, 2)]
    spread.terminate()
    assert statuses(*waits) == [Status.SHUTDOWN] * 2
    pub.write(b" more")
    pub.close_stdin()
    assert statuses(pub, sub) == [Status.OK] * 2
    assert sub.output == "some more"
    assert spread.process.wait() == Status.OK


def test_quota_counts_who_moves_once(start_server: StartServer) -> None:
    """A user with as many connections and sessions as allowed may have each of them moved."""
    spread = start_server(
        program=MOVING, workers=2, max_connections_per_user=2, max_sessions_per_user=2
    )
    sub = read(spread, 2, "sub at1")
    pub = spread.ssh("alice", "pub at1", stdin=HELD, options=at(2))
    pub.write(b"some")
    sub.wait_stdout(4)
    assert moves(spread) == 2
    late = spread.ssh("alice", "whoami", options=at(2))
    assert late.wait() == Status.NO_CONNECTION
    pub.close_stdin()
    assert statuses(pub, sub) == [Status.OK] * 2
    wait_until(lambda: spread.run("alice", "whoami").wait() == Status.OK, "room again")
    metrics = spread.metrics()
    assert metrics.value("pipe_unauthenticated_connections") == 0


def test_early_input_moves_along(start_server: StartServer) -> None:
    """What a client sends before it is moved comes before the rest."""
    spread = start_server(program=MOVING, workers=2)
    data = noise(BEYOND_BUFFERS)
    pub = spread.ssh("alice", "pub at1", stdin=data, options=at(2))
    spread.wait_waiting()
    sub = read(spread, 2, "sub at1")
    assert statuses(pub, sub) == [Status.OK] * 2
    assert sha256(sub.stdout.data) == sha256(data)
    assert moves(spread) == 2
