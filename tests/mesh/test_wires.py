"""Wires between machines: what they promise."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from typing import TYPE_CHECKING, NamedTuple

import pytest
import pytest_asyncio

from pipe.errors import Outcome, StartError, Unreachable
from pipe.language.quantities import KIB, MIB
from pipe.mesh.greeting import Greeting
from pipe.mesh.tls import TlsWire

from .kinds import (
    FAR,
    HOST,
    IDENTITY,
    NEAR,
    OTHER_DATABASE,
    Ear,
    ended,
    free_port,
    make_node,
    node_files,
    of_another_ca,
    self_signed,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pipe.mesh.certificates import MeshFiles
    from pipe.mesh.directory import WorkerId
    from pipe.mesh.identity import Identity
    from pipe.mesh.wire import End, Wire

    from .kinds import Node


class Pair(NamedTuple):
    """A wire, and both who listen."""

    near: Wire
    near_ear: Ear
    far: Wire
    far_ear: Ear
    node: Node


class Mesh:
    """Two nodes in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = ((HOST, free_port()), (HOST, free_port()))
        self.accepted: asyncio.Queue[tuple[Wire, Ear]] = asyncio.Queue()
        self.nodes: list[Node] = []

    def accept(self, _worker: WorkerId, wire: Wire) -> End:
        """Take a wire."""
        ear = Ear()
        self.accepted.put_nowait((wire, ear))
        return ear

    async def add_far(self, files: MeshFiles | None = None) -> Node:
        """Add the one that wires are opened to."""
        here, there = self.places
        files = files or node_files(self.folder, FAR.node)
        node = await make_node(FAR, files, self.accept, there, here)
        self.nodes.append(node)
        return node

    async def add_near(self, files: MeshFiles | None = None, identity: Identity = IDENTITY) -> Node:
        """Add the one that opens them."""
        files = files or node_files(self.folder, NEAR.node)
        node = await make_node(NEAR, files, self.accept, *self.places, identity)
        self.nodes.append(node)
        return node

    async def open_pair(self) -> Pair:
        """Add both, and open a wire."""
        await self.add_far()
        node = await self.add_near()
        ear = Ear()
        wire = await node.connect(FAR, ear)
        return Pair(wire, ear, *await self.accepted.get(), node)


@pytest_asyncio.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Two nodes that are not there yet."""
    mesh = Mesh(tmp_path)
    yield mesh
    for node in mesh.nodes:
        await node.close()


def some_frames(seed: int) -> list[bytes]:
    """Frames of all sizes, up to the largest."""
    choose = random.Random(seed)
    sizes = [1, 3, 4, 5, 65_535, 256 * KIB, MIB, *(choose.randrange(1, 40_000) for _ in range(50))]
    choose.shuffle(sizes)
    return [choose.randbytes(size) for size in sizes]


async def test_frames_arrive_whole_and_in_order(mesh: Mesh) -> None:
    """Frames of any size, in both directions at once, arrive as they were sent."""
    pair = await mesh.open_pair()
    there, back = some_frames(1), some_frames(2)
    for one, other in zip(there, back, strict=True):
        pair.near.send([(one,)])
        pair.far.send([(other,)])
        await asyncio.sleep(0)
    await pair.far_ear.wait_until(lambda: len(pair.far_ear.frames) == len(there))
    await pair.near_ear.wait_until(lambda: len(pair.near_ear.frames) == len(back))
    assert (pair.far_ear.frames, pair.near_ear.frames) == (there, back)
    pair.near.close()


async def test_close_is_told_to_the_other_end_alone(mesh: Mesh) -> None:
    """Who closes a wire is told nothing; the other end hears why it is over."""
    pair = await mesh.open_pair()
    pair.near.close()
    await pair.far_ear.wait_until(lambda: pair.far_ear.reason)
    assert pair.far_ear.reason == "it has closed the link"
    assert not pair.near_ear.reason
    pair.near.send([(b"nobody reads this",)])
    pair.far.send([(b"nor this",)])


async def test_a_wire_that_rests_stays(mesh: Mesh) -> None:
    """Beats keep a wire on which nothing is said for longer than silence may last."""
    pair = await mesh.open_pair()
    await asyncio.sleep(4)
    pair.near.send([(b"still there",)])
    await pair.far_ear.wait_until(lambda: pair.far_ear.frames)
    assert (pair.near_ear.reason, pair.far_ear.reason) == ("", "")
    pair.near.close()


async def test_too_much_at_once_blocks(mesh: Mesh) -> None:
    """Above 1 MiB unsent a wire is blocked and says so; later it says that it no longer is."""
    pair = await mesh.open_pair()
    pair.near.send([(bytes(MIB),)] * 32)
    assert pair.near.blocked
    assert pair.near_ear.blocks == [True]
    await pair.near_ear.wait_until(lambda: not pair.near.blocked)
    await pair.far_ear.wait_until(lambda: pair.far_ear.size == 32 * MIB)
    assert pair.near_ear.blocks == [True, False]
    pair.near.close()


async def test_a_stalled_stream_holds_up_no_other(mesh: Mesh) -> None:
    """With credit of 1 MiB each, a stream that nobody reads leaves the wire to the others."""
    pair = await mesh.open_pair()
    credit = dict.fromkeys("abc", MIB)
    taken = dict.fromkeys("abc", 0)

    class Reader(Ear):
        def received(self, frame: memoryview) -> None:
            """Give credit for what was read, but nothing for the first stream."""
            stream = chr(frame[0])
            taken[stream] += len(frame)
            if stream != "a":
                credit[stream] += len(frame)
            self._told.set()

    reader = Reader()
    pair.far_ear.received = reader.received  # type: ignore[method-assign]
    sent = dict.fromkeys("abc", 0)
    while min(sent["b"], sent["c"]) < 16 * MIB:
        for stream in "abc":
            if sent[stream] + 32 * KIB <= credit[stream] and not pair.near.blocked:
                pair.near.send([(stream.encode() * (32 * KIB),)])
                sent[stream] += 32 * KIB
        await asyncio.sleep(0)
    await reader.wait_until(lambda: taken == sent)
    assert taken["a"] == MIB
    assert not pair.near_ear.reason
    pair.near.close()


async def test_several_wires_do_not_mix(mesh: Mesh) -> None:
    """Each wire between two workers is one of its own."""
    first = await mesh.open_pair()
    ear = Ear()
    second = await first.node.connect(FAR, ear)
    far, far_ear = await mesh.accepted.get()
    first.near.send([(b"first",)])
    second.send([(b"second",)])
    await first.far_ear.wait_until(lambda: first.far_ear.frames)
    await far_ear.wait_until(lambda: far_ear.frames)
    assert (first.far_ear.frames, far_ear.frames) == ([b"first"], [b"second"])
    first.near.close()
    await first.far_ear.wait_until(lambda: first.far_ear.reason)
    far.send([(b"goes on",)])
    await ear.wait_until(lambda: ear.frames)
    second.close()


async def test_a_wire_that_is_lost_before_it_begins() -> None:
    """Whoever it is for is told, however soon after the answer that was."""
    early: list[str] = []
    wire = TlsWire(lambda *_: None, early.append, lambda _: None)
    wire.connection_lost(None)
    ear = Ear()
    wire.begin(ear)
    assert [ear.reason] == early


async def test_an_older_worker_is_not_meant(mesh: Mesh) -> None:
    """A wire to a worker that was started anew since is refused."""
    await mesh.add_far()
    node = await mesh.add_near()
    with pytest.raises(Unreachable, match="n2 cannot be reached from n1") as refused:
        await node.connect(FAR._replace(epoch=FAR.epoch - 1), Ear())
    assert refused.value.outcome is Outcome.UNAVAILABLE


async def test_another_database_is_refused(mesh: Mesh) -> None:
    """Nodes that are not of one service open no wire, and the reason says how to mend it."""
    await mesh.add_far()
    node = await mesh.add_near(identity=OTHER_DATABASE)
    with pytest.raises(Unreachable, match="n1 has another accounts database: give both"):
        await node.connect(FAR, Ear())


async def test_nobody_there(mesh: Mesh) -> None:
    """A wire to a node that is not there is refused in time."""
    node = await mesh.add_near()
    with pytest.raises(Unreachable, match="n2 cannot be reached from n1: "):
        await node.connect(FAR, Ear())


@pytest.mark.parametrize("files", [of_another_ca, self_signed, ended])
async def test_bad_certificates(mesh: Mesh, files: Callable[[Path], MeshFiles]) -> None:
    """Without a valid certificate of the mesh's CA nobody opens a wire."""
    bad = files(mesh.folder)
    await mesh.add_far()
    node = await mesh.add_near(bad)
    with pytest.raises(Unreachable):
        await node.connect(FAR, Ear())
    assert mesh.accepted.empty()


@pytest.mark.parametrize("liar", [NEAR, FAR])
async def test_a_name_that_is_not_its_own(mesh: Mesh, liar: WorkerId) -> None:
    """Who opens or takes a wire under another node's name than its certificate's is refused."""
    files = node_files(mesh.folder, "n9")
    await mesh.add_far(files if liar is FAR else None)
    node = await mesh.add_near(files if liar is NEAR else None)
    with pytest.raises(Unreachable, match=f"certificate is for n9 and not for {liar.node}"):
        await node.connect(FAR, Ear())
    assert mesh.accepted.empty()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_who_is_no_node(mesh: Mesh, encrypted: bool) -> None:
    """A client without a certificate, or without TLS, is cut off before anything is read."""
    await mesh.add_far()
    context = ssl.create_default_context(cafile=node_files(mesh.folder, "n9").ca)
    context.check_hostname = False
    greeting = Greeting(NEAR, FAR, IDENTITY).encode()
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(
            *mesh.places[1], ssl=context if encrypted else None
        )
        writer.write(len(greeting).to_bytes(4) + greeting)
        await reader.read()
        writer.close()
        await writer.wait_closed()
    assert mesh.accepted.empty()


async def test_files_that_are_no_certificates(mesh: Mesh) -> None:
    """A node whose files cannot be used does not start, and says which."""
    files = node_files(mesh.folder, NEAR.node)
    files.key.write_text("nothing")
    with pytest.raises(StartError):
        await mesh.add_near(files)
