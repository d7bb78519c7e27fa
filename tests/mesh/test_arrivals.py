"""Strangers at a mesh's ports, who connect and say nothing, or too little, or too slowly."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio

from pipe.language.places import Place
from pipe.mesh import arrivals
from pipe.mesh.certificates import contexts
from pipe.mesh.directory import WorkerId
from pipe.mesh.greeting import MAX_GREETING
from pipe.mesh.hubs import Hubs

from .kinds import FAR, HOST, IDENTITY, NEAR, Ear, free_port, make_node, node_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from pipe.mesh.certificates import MeshFiles
    from pipe.mesh.wire import Wire

    from .kinds import Node

STRANGER: Final = "127.0.0.2"

IDLE = 500
"""Connections of strangers: more than there are places."""

HELLO: Final = bytes.fromhex("16030102000100")
"""The beginning of a TLS record."""

HUB: Final = WorkerId("n2", 0, 2)
JOINER: Final = WorkerId("n1", 0, 1)


class Crowd:
    """Connections that say nothing."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._members: list[socket.socket] = []

    async def add(self, count: int, address: str = HOST) -> None:
        """Let so many more come from an address; the loop has a turn after each."""
        for _ in range(count):
            member = socket.create_connection(self._place, source_address=(address, 0))
            member.setblocking(False)
            self._members.append(member)
            await asyncio.sleep(0)

    def left(self, address: str = HOST) -> list[int]:
        """Those from an address that nobody has closed, by their place in the order."""
        mine = [one for one in self._members if one.getsockname()[0] == address]
        return [number for number, one in enumerate(mine) if not _closed(one)]

    async def until_left(self, count: int, address: str = HOST) -> list[int]:
        """Wait until so many or fewer are left, and return these."""
        while len(self.left(address)) > count:  # noqa: ASYNC110 - the sockets tell nobody
            await asyncio.sleep(0.01)
        return self.left(address)

    def close(self) -> None:
        """All go."""
        for member in self._members:
            member.close()


def _closed(member: socket.socket) -> bool:
    try:
        return not member.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.fixture
def place() -> Place:
    """Where the node listens."""
    return Place(HOST, free_port())


@pytest.fixture
def crowd(place: Place) -> Iterator[Crowd]:
    """Nobody yet."""
    crowd = Crowd(place)
    yield crowd
    crowd.close()


def take(_worker: WorkerId, _wire: Wire) -> Ear:
    """Take any wire."""
    return Ear()


@pytest_asyncio.fixture
async def node(tmp_path: Path, place: Place) -> AsyncIterator[Node]:
    """One that takes wires."""
    node = await make_node(FAR, node_files(tmp_path, FAR.node), take, place, place)
    yield node
    await node.close()


@pytest.mark.usefixtures("node")
async def test_idle_connections_keep_no_node_out(
    tmp_path: Path, place: Place, crowd: Crowd
) -> None:
    """While 500 say nothing, a node opens its wire; of them only some have a place at a time."""
    await crowd.add(IDLE, STRANGER)
    near = await make_node(NEAR, node_files(tmp_path, NEAR.node), take, (HOST, 0), place)
    wire = await near.connect(FAR, Ear())
    await crowd.until_left(arrivals.MOST_OF_SOURCE, STRANGER)
    wire.close()
    await near.close()


async def test_strangers_have_a_deadline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: Place, crowd: Crowd
) -> None:
    """Who has said nothing for the time that there is has lost its place."""
    monkeypatch.setattr(arrivals, "ARRIVAL_SECONDS", 0.2)
    node = await make_node(FAR, node_files(tmp_path, FAR.node), take, place, place)
    await crowd.add(3)
    await crowd.until_left(0)
    await node.close()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_dribbling_gains_no_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: Place, encrypted: bool
) -> None:
    """TLS that comes byte by byte, or beats without a greeting, end with the same deadline."""
    monkeypatch.setattr(arrivals, "ARRIVAL_SECONDS", 0.3)
    node = await make_node(FAR, node_files(tmp_path, FAR.node), take, place, place)
    _, opening = contexts(node_files(tmp_path, NEAR.node))
    reader, writer = await asyncio.open_connection(*place, ssl=opening if encrypted else None)
    end = asyncio.ensure_future(reader.read())
    for byte in itertools.cycle([0]) if encrypted else itertools.chain(HELLO, itertools.repeat(0)):
        if end.done():
            break
        with contextlib.suppress(OSError):
            writer.write(bytes(4 if encrypted else (byte,)))
            await writer.drain()
        await asyncio.sleep(0.01)
    with contextlib.suppress(OSError):
        assert await end == b""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    await node.close()


@pytest.mark.usefixtures("node")
async def test_who_has_most_makes_room(monkeypatch: pytest.MonkeyPatch, crowd: Crowd) -> None:
    """One address has only so many places; of all the one with most loses its oldest."""
    monkeypatch.setattr(arrivals, "MOST", 5)
    monkeypatch.setattr(arrivals, "MOST_OF_SOURCE", 4)
    one, other = "127.0.0.2", "127.0.0.3"
    await crowd.add(6, one)
    assert await crowd.until_left(4, one) == [2, 3, 4, 5]
    await crowd.add(2, other)
    assert await crowd.until_left(3, one) == [3, 4, 5]
    assert crowd.left(other) == [0, 1]


@pytest.mark.usefixtures("node")
async def test_who_fails_too_often_is_not_heard(
    monkeypatch: pytest.MonkeyPatch, crowd: Crowd
) -> None:
    """Who comes from where too many have failed is turned away without a place; others are not."""
    monkeypatch.setattr(arrivals, "MOST_OF_SOURCE", 1)
    monkeypatch.setattr(arrivals, "MOST_FAILED", 2)
    monkeypatch.setattr(arrivals, "int", lambda _: 7, raising=False)  # it is always the same second
    await crowd.add(3, STRANGER)  # of which two have made room
    assert await crowd.until_left(1, STRANGER) == [2]
    await crowd.add(2, STRANGER)
    assert await crowd.until_left(1, STRANGER) == [2]
    await crowd.add(1)
    assert crowd.left() == [0]


@pytest.mark.usefixtures("node")
async def test_a_long_greeting(tmp_path: Path, place: Place) -> None:
    """A first frame that is longer than any greeting ends the wire before it has come."""
    _, opening = contexts(node_files(tmp_path, NEAR.node))
    reader, writer = await asyncio.open_connection(*place, ssl=opening)
    writer.write((MAX_GREETING + 1).to_bytes(4))
    with contextlib.suppress(OSError):
        assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Half(Crowd):
    """Connections that begin to speak TLS, and do not go on."""

    async def add(self, count: int, address: str = HOST) -> None:
        """Let so many more come."""
        for _ in range(count):
            await super().add(1, address)
            self._members[-1].send(HELLO)


class Foreign(Crowd):
    """Connections with a certificate of another mesh."""

    def __init__(self, place: Place, files: MeshFiles) -> None:
        super().__init__(place)
        _, self._opening = contexts(files)
        self._opening.verify_mode = ssl.CERT_NONE

    async def add(self, count: int, address: str = HOST) -> None:
        """Let so many more come; each is told in the end that it is not wanted."""
        for _ in range(count):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    *self._place, ssl=self._opening, local_addr=(address, 0)
                )
                with contextlib.closing(writer):
                    await reader.read()


@pytest.mark.parametrize("kind", [Crowd, Half, Foreign])
async def test_strangers_keep_no_machine_out(
    tmp_path: Path, place: Place, kind: type[Crowd]
) -> None:
    """While strangers come to a hub's port another machine joins, and both see each other."""
    files = (node_files(tmp_path / "other", "n1"),) if kind is Foreign else ()
    crowd = kind(place, *files)
    far = await Hubs.open(HUB, IDENTITY, node_files(tmp_path, HUB.node), place)
    far.appear()
    await crowd.add(50, STRANGER)
    coming = asyncio.ensure_future(go_on(crowd))
    near = await Hubs.open(
        JOINER,
        IDENTITY,
        node_files(tmp_path, JOINER.node),
        Place(HOST, free_port()),
        [place],
    )
    near.appear()
    seen = asyncio.Event()
    for hubs in (near, far):
        hubs.members.follow(seen.set, lambda _: None)
    while HUB not in near.members.others or JOINER not in far.members.others:
        seen.clear()
        await seen.wait()
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
    crowd.close()
    await near.close()
    await far.close()


async def go_on(crowd: Crowd) -> None:
    """Let more come without end."""
    while True:
        await crowd.add(1, STRANGER)
