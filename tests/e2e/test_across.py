"""Streams between clients of two workers: by a hop, and by moving the client; the real `ssh`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .processes import statuses
from .server import HOPPING, MOVING, Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def lane() -> str:
    """A client on asyncssh's data path is never moved."""
    return "fast"


@pytest.fixture(params=[HOPPING, MOVING], ids=["hop", "move"])
def spread(request: pytest.FixtureRequest, start_server: StartServer) -> Server:
    """A server of two workers whose clients and topics are where the test wants them."""
    return start_server(program=request.param, workers=2, trusted_sources="127.0.0.0/8")


def at(worker: int) -> tuple[str, ...]:
    """The options of a client that is given to a worker."""
    return "-o", f"BindAddress=127.0.1.{worker}"


def test_pub_to_sub(spread: Server) -> None:
    """Hello."""
    sub = spread.ssh("alice", "sub at1", options=at(2))
    spread.wait_sessions(subscribe=1)
    pub = spread.ssh("alice", "pub at1", stdin=b"hello", options=at(2))
    assert statuses(pub, sub) == [Status.OK] * 2
    assert sub.output == "hello"
