"""Connections that go from one worker to another."""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipe.hub import moves
from pipe.hub.far import FarGate
from pipe.hub.moves import Crate, Moves, empty
from pipe.hub.reception import Reception
from pipe.hub.serve import Hub
from pipe.language.names import parse_topic
from pipe.mesh.directory import WorkerId
from pipe.mesh.peers import Peer
from pipe.settings import Settings
from pipe.ssh.channel import Channel
from pipe.ssh.handover import BUILD

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

    full = False

    def send(self, message: dict[str, Any], descriptor: socket.socket | None = None) -> None:
        """Keep it."""
        self.sent.append(message)
        if descriptor:
            descriptor.close()


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


class Carried:
    """A worker with a connection that its hub has counted, and what it tells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, build: str = BUILD.hex()) -> None:
        told: Any = Told()
        self.told: Told = told
        self.withdrawn: list[object] = []
        self.settled = 0
        self.exported = 0
        gate = FarGate(Settings(), told)
        own, home = WorkerId("", 1, 1), WorkerId("", 2, 2)
        peers: Any = SimpleNamespace(
            own=Peer(own, Path("1"), build=BUILD.hex()),
            others={home: Peer(home, Path("2"), build=build)},
        )
        none: Any = None
        self.moves = Moves(none, none, gate, told, peers)
        mesh: Any = SimpleNamespace(
            withdraw=lambda *join: self.withdrawn.append(join),
            receive=lambda *_: SimpleNamespace(settle=self._settle),
            figures=SimpleNamespace(moves=Counter()),
        )
        self.moves.mesh = mesh
        visit = gate.receive(7, "192.0.2.1", trusted=False)
        connection: Any = SimpleNamespace(visit=visit)
        self.front = object.__new__(Channel)
        self.front._connection = connection  # noqa: SLF001
        monkeypatch.setattr(moves, "export", self._export)

    def _settle(self) -> None:
        self.settled += 1

    def _export(self, _service: object, front: Any) -> object:  # noqa: ANN401
        self.exported += 1
        front.connection.visit.leave(None, 0.0)
        cargo = SimpleNamespace(encode=lambda: b"state")
        return SimpleNamespace(socket=socket.socket(), cargo=cargo)

    def carry(self) -> bool:
        """Have it moved."""
        return self.moves.carry(self.front, parse_topic("ann/a", caller=""), WorkerId("", 2, 2))


def test_nobody_moves_to_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """While workers are replaced by those of another build, which would refuse it, all stay."""
    carried = Carried(monkeypatch, build="another")
    assert not carried.carry()
    assert not carried.exported
    same = Carried(monkeypatch)
    assert same.carry()
    assert [message["type"] for message in same.told.sent] == ["move"]


def test_connection_that_gets_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be packed is counted no longer, and no join of it is waited for."""
    carried = Carried(monkeypatch)

    def fill(crate: Crate, client: socket.socket, data: bytes) -> socket.socket:  # noqa: ARG001
        client.close()
        raise OSError

    monkeypatch.setattr(Crate, "fill", fill)
    assert carried.carry()
    assert carried.told.sent == [{"type": "left", "guest": 7, "offence": None}]
    assert len(carried.withdrawn) == 1


async def test_no_descriptor_is_left_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a connection cannot be taken out of its message, it has left, and its join has come."""
    carried = Carried(monkeypatch)
    message = {
        "guest": 9,
        "source": "192.0.2.1",
        "trusted": False,
        "returned": False,
        "topic": "ann/a",
        "asker": ["", 2, 2],
    }
    await carried.moves.take(message, None)
    assert carried.told.sent == [{"type": "left", "guest": 9, "offence": None}]
    assert carried.settled == 1


async def test_hub_has_no_descriptor_left() -> None:
    """The same at the hub: the guest has left, and its topic gets no home by it."""
    hub: Any = Hub(Settings())
    hub._reception = await make_reception()  # noqa: SLF001
    here, home = worker(ident=WorkerId("", 1, 1), channel=Told()), WorkerId("", 2, 2)
    here.guests[7] = hub._reception.gate.enter("192.0.2.1", 0.0)  # noqa: SLF001
    hub._homes.enter("ann/a", here.ident, {home: 0.0})  # noqa: SLF001
    hub.received(here, {"type": "move", "guest": 7, "topic": "ann/a", "home": home}, None)
    assert not here.guests
    assert not hub._reception.gate.open  # noqa: SLF001
    assert not len(hub._homes)  # noqa: SLF001


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
