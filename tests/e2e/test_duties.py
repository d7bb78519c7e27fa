"""What one worker does for all is done, and done once, whoever stands still and goes on."""

from __future__ import annotations

import os
import signal
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from .alert import PROGRAM
from .processes import wait_until
from .receiver import receiving
from .server import Status
from .test_workers import health, workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import StartServer
    from .nodes import Nodes
    from .receiver import Receiver
    from .server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NETWORKS = "127.0.0.0/8"


@pytest.fixture(scope="module")
def lane() -> str:
    """The hub never sees what a lane does."""
    return "fast"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Who is sent what is published."""
    with receiving() as found:
        yield found


def add_webhook(server: Server, receiver: Receiver) -> None:
    """Have it sent there from now on."""
    command = f"webhooks add deploys {receiver.url} --frame line"
    wait_until(lambda: server.run("alice", command).wait() == Status.OK, "the one who does it")


def check_posted_once(server: Server, receiver: Receiver, line: bytes) -> None:
    """Publish a line, and another one: each is sent once."""
    lines = [line, line + b" again"]
    before = len(receiver.posts)
    for one in lines:
        # It waits for its webhook, whose worker may just begin with it.
        assert server.run("alice", "pub deploys", one + b"\n").wait() == Status.OK
    assert [post.body for post in receiver.wait(before + 2)[before:]] == lines


def test_leader_stands_still(start_server: StartServer, receiver: Receiver) -> None:
    """Another worker does it, HTTP as well; the first, when it goes on, if that one dies."""
    server = start_server(program=PROGRAM, workers=2, webhook_networks=NETWORKS)
    workers = workers_of(server)
    add_webhook(server, receiver)
    check_posted_once(server, receiver, b"first")
    os.kill(workers[1], signal.SIGSTOP)
    assert server.wait_lines("duties taken")[0]["worker"] == 2
    check_posted_once(server, receiver, b"second")
    assert health(server) == HTTPStatus.OK
    os.kill(workers[1], signal.SIGCONT)
    server.wait_lines("worker goes on")
    check_posted_once(server, receiver, b"third")
    os.kill(workers[2], signal.SIGKILL)
    assert server.wait_lines("duties taken", 2)[1]["worker"] == 1
    check_posted_once(server, receiver, b"fourth")


def test_next_leader_stands_still(start_server: StartServer, receiver: Receiver) -> None:
    """One that does not do what it is told is passed over, and does not when it goes on."""
    server = start_server(program=PROGRAM, workers=2, webhook_networks=NETWORKS)
    workers = workers_of(server)
    add_webhook(server, receiver)
    os.kill(workers[2], signal.SIGSTOP)
    os.kill(workers[1], signal.SIGKILL)
    assert server.wait_lines("duties taken")[0]["worker"] == 1
    check_posted_once(server, receiver, b"first")
    os.kill(workers[2], signal.SIGCONT)
    server.wait_lines("worker goes on")
    check_posted_once(server, receiver, b"second")
    assert len(server.lines("duties taken")) == 1


def test_stop_waits_for_nobody_who_stands_still(start_server: StartServer) -> None:
    """The server ends well although one of its workers does not answer."""
    server = start_server(program=PROGRAM, workers=2)
    os.kill(workers_of(server)[2], signal.SIGSTOP)
    server.terminate()
    assert server.process.wait() == Status.OK


def test_worker_of_one_machine_stands_still(nodes: Nodes, receiver: Receiver) -> None:
    """Another machine does it, and goes on with it when that worker is back."""
    first, second = (
        nodes.start(name, program=PROGRAM, webhook_networks=NETWORKS) for name in ("n1", "n2")
    )
    first.wait_lines("duties taken")
    add_webhook(second, receiver)
    check_posted_once(second, receiver, b"first")
    (worker,) = workers_of(first).values()
    os.kill(worker, signal.SIGSTOP)
    second.wait_lines("duties taken")
    check_posted_once(second, receiver, b"second")
    os.kill(worker, signal.SIGCONT)
    first.wait_lines("worker goes on")
    check_posted_once(second, receiver, b"third")
    assert [len(node.lines("duties taken")) for node in (first, second)] == [1, 1]
