"""Commands that speak of the whole service, whichever of its workers a client is on."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import SharedServer
from .payloads import MIB
from .processes import statuses
from .server import HOPPING, MOVING, Server, Status
from .test_workers import workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .clients import KeyRing
    from .processes import Process

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def lane() -> str:
    """A client on asyncssh's data path is never moved."""
    return "fast"


@pytest.fixture(scope="module", params=[HOPPING, MOVING], ids=["hop", "move"])
def shared_server(
    request: pytest.FixtureRequest,
    lane: str,
    keys: KeyRing,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SharedServer]:
    """One of three workers; see `tests.e2e.scattered` for who and what is where."""
    folder = tmp_path_factory.mktemp("server")
    shared = SharedServer(
        folder, keys, lane, request.param, workers=3, trusted_sources="127.0.0.0/8"
    )
    yield shared
    assert shared.stop() == Status.OK


def at(worker: int) -> tuple[str, ...]:
    """The options of a client that is given to a worker."""
    return "-o", f"BindAddress=127.0.1.{worker}"


def ask(server: Server, worker: int, command: str, user: str = "alice") -> Process:
    """Run a command on a worker to its end."""
    client = server.ssh(user, command, options=at(worker))
    client.wait()
    return client


def rows_of(client: Process) -> list[dict[str, Any]]:
    """What it printed, a JSON object in each line."""
    assert client.wait() == Status.OK
    return [json.loads(line) for line in client.output.splitlines()]


def test_ls_shows_topics_of_all_workers(server: Server) -> None:
    """Each topic is listed once, with its own figures, in the order of one worker's list."""
    for number in (3, 1, 2):
        server.ssh("alice", f"sub at{number}", options=at(number))
    server.ssh("alice", "sub at2", options=at(3))
    server.ssh("bob", "sub public/at1", options=at(1))
    server.wait_sessions(subscribe=5)
    rows = rows_of(ask(server, 2, "ls --json"))
    assert [(row["topic"], row["subscribers"]) for row in rows] == [
        ("alice/at1", 1),
        ("alice/at2", 2),
        ("alice/at3", 1),
        ("public/at1", 1),
    ]
    assert [row["topic"] for row in rows_of(ask(server, 3, "ls --json 'public/*'"))] == [
        "public/at1"
    ]
    table = ask(server, 1, "ls")
    assert [line.split()[0] for line in table.output.splitlines()[1:]] == [
        "at1",
        "at2",
        "at3",
        "public/at1",
    ]
    assert not table.text


def test_worker_that_does_not_answer_is_named(server: Server) -> None:
    """The others' topics are listed, with whom to ask again."""
    for number in (1, 2):
        server.ssh("alice", f"sub at{number}", options=at(number))
    server.wait_sessions(subscribe=2)
    pid = workers_of(server)[2]
    os.kill(pid, signal.SIGSTOP)
    try:
        client = server.ssh("alice", "ls --json", options=at(1))
        rows = rows_of(client)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [row.get("topic") for row in rows] == ["alice/at1", None]
    assert rows[-1] == {"missing": ["2"]}
    assert "no answer from worker 2" in client.text


def test_pattern_reads_from_all_workers(server: Server) -> None:
    """A reader on a pattern gets what is published in any worker, each publisher's in order."""
    sub = server.ssh("alice", "sub 'at*'", options=at(1))
    server.wait_sessions(subscribe=1)
    data = {number: f"<{number}>".encode() * 200_000 for number in (1, 2, 3)}
    pubs = [
        server.ssh("alice", f"pub at{number}", stdin=text, options=at(1 + number % 3))
        for number, text in data.items()
    ]
    assert statuses(*pubs) == [Status.OK] * 3
    assert all("to 1 subscriber" in pub.text for pub in pubs)
    assert sub.stdout.wait(lambda out: out.size >= 1_800_000)
    for number in data:
        assert sub.output.count(str(number)) == 200_000
    sub.interrupt()
    sub.wait()
    server.wait_sessions(subscribe=0)
    ends = server.wait_lines("session ended", mode="subscribe")
    assert [line["delivered"] for line in ends if line["topic"] == "alice/at*"] == [1_800_000]


def test_slow_reader_on_a_pattern_holds_publishers_elsewhere(server: Server) -> None:
    """Backpressure reaches a publisher in another worker, and lets go of it again."""
    sub = server.ssh("alice", "sub 'at*'", options=at(1), reading=False)
    server.wait_sessions(subscribe=1)
    data = b"x" * (24 * MIB)
    pub = server.ssh("alice", "pub at2", stdin=data, options=at(3))
    server.wait_metric("pipe_clogged_subscribers", 1)
    assert pub.running
    sub.stdout.start_reading()
    assert pub.wait() == Status.OK
    assert sub.stdout.wait(lambda out: out.size >= len(data))


def test_pattern_reader_outlives_a_worker(server: Server) -> None:
    """It is told whose streams broke, and reads on from the others and from who comes after."""
    sub = server.ssh("alice", "sub 'at*'", options=at(1))
    server.wait_sessions(subscribe=1)
    os.kill(workers_of(server)[2], signal.SIGKILL)
    sub.wait_stderr(r"worker 2 is gone: what was published there broke off\r?\n")
    first = server.ssh("alice", "pub at3", stdin=b"three", options=at(3))
    assert first.wait() == Status.OK
    server.wait_metric("pipe_up", 3)
    second = server.ssh("alice", "pub at2", stdin=b"two", options=at(3))
    assert second.wait() == Status.OK
    assert sub.stdout.wait(lambda out: out.data == b"threetwo")
