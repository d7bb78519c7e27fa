"""Connections that go from one worker to another."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipe.hub.far import FarGate
from pipe.hub.moves import Crate, empty
from pipe.hub.reception import Reception
from pipe.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def client() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    with (pair := socket.socketpair())[0], pair[1]:
        yield pair


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("size", [0, 1500, 2 << 20])
def test_socket_and_state_travel_together(
    client: tuple[socket.socket, socket.socket], size: int
) -> None:
    """One descriptor brings both, however long the state is, and nothing else stays open."""
    ours, theirs = client
    before = descriptors()
    state = os.urandom(size)
    connection, found = empty(Crate().fill(theirs, state))
    with connection:
        assert found == state
        connection.sendall(b"hello")
        assert ours.recv(5) == b"hello"
    assert descriptors() == before - 1, "the client's own copy is closed too"


def test_nothing_is_in_it() -> None:
    """What brings no descriptors is refused, and let go of."""
    before = descriptors()
    crate = Crate()
    other = crate._outside.dup()  # noqa: SLF001
    crate.close()
    with pytest.raises(OSError, match="no descriptors"):
        empty(other)
    assert descriptors() == before


def test_crate_that_is_not_used() -> None:
    """It leaves nothing open."""
    before = descriptors()
    Crate().close()
    assert descriptors() == before


class Told:
    """A channel to the hub."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        """Keep it."""
        self.sent.append(message)


def test_hub_does_not_hear_of_who_moves() -> None:
    """A connection that is gone is told, but for one that goes on in another worker."""
    told: Any = Told()
    gate = FarGate(Settings(), told)
    stays, moves = (gate.receive(number, "192.0.2.1", trusted=False) for number in (1, 2))
    moves.moves = True
    moves.leave(None, 0.0)
    assert not told.sent
    stays.leave(None, 0.0)
    assert told.sent == [{"type": "left", "guest": 1, "offence": None}]


def test_who_comes_back_before_it_has_left() -> None:
    """The hub may hand a connection back at once: then it is the new one that it can cut."""
    told: Any = Told()
    gate = FarGate(Settings(), told)
    before = gate.receive(1, "192.0.2.1", trusted=False)
    before.moves = True
    cut: list[int] = []
    again = gate.receive(1, "192.0.2.1", trusted=False)
    again.cut = lambda: cut.append(1)
    before.leave(None, 0.0)
    gate.cut(1)
    assert cut == [1]


async def make_reception() -> Any:  # noqa: ANN401
    """Some room for everybody."""
    return Reception(Settings(), lambda _: [], lambda _: None, lambda *_: None, lambda *_: None)


def worker(**values: object) -> Any:  # noqa: ANN401
    """One that serves, as the hub sees it."""
    return SimpleNamespace(**{"serves": True, "guests": {}, "logging_in": 0, **values})


async def test_guest_is_counted_where_it_goes() -> None:
    """Who has moved is its new worker's, and leaves the gate once, when it has left that."""
    reception = await make_reception()
    here, there = worker(), worker()
    here.guests[7] = reception.gate.enter("192.0.2.1", 0.0)
    here.logging_in = 1
    reception.admit(here, 7, "alice")
    assert reception.move(here, 7, there) is there
    assert (len(here.guests), len(there.guests)) == (0, 1)
    assert here.logging_in == there.logging_in == 0
    reception.went(here)
    reception.left(here, 7, None)
    assert reception.gate.open == 1
    reception.left(there, 7, None)
    assert reception.gate.open == 0


@pytest.mark.parametrize("home", [None, worker(serves=False), worker(guests=range(1 << 30))])
async def test_no_room_there(home: object) -> None:
    """Where a connection cannot go, it comes back, and is counted as before."""
    reception = await make_reception()
    here = worker()
    here.guests[7] = reception.gate.enter("192.0.2.1", 0.0)
    assert reception.move(here, 7, home) is here
    assert list(here.guests) == [7]
