"""Hubs that see each other's workers come and go, over real wires."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from pipe.errors import StartError
from pipe.language.places import Place
from pipe.language.quantities import MIB
from pipe.mesh import hubs as module
from pipe.mesh import news
from pipe.mesh.certificates import contexts
from pipe.mesh.directory import WorkerId
from pipe.mesh.greeting import Introduction
from pipe.mesh.hubs import Hubs
from pipe.mesh.news import News
from pipe.mesh.tls import Door

from .kinds import (
    HOST,
    IDENTITY,
    OTHER_DATABASE,
    Ear,
    ended,
    free_port,
    node_files,
    of_another_ca,
    self_signed,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from pipe.mesh.certificates import MeshFiles
    from pipe.mesh.identity import Identity
    from pipe.mesh.tls import TlsWire

FIRST: Final = WorkerId("n1", 0, 1)
SECOND: Final = WorkerId("n2", 0, 2)
THIRD: Final = WorkerId("n3", 0, 3)
WORKER, AT = WorkerId("n1", 1, 3), Place("::1", 2224)


class Mesh:
    """Some hubs in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = {node: Place(HOST, free_port()) for node in ("n1", "n2", "n3")}
        self._opened: list[Hubs] = []
        self._files: dict[str, MeshFiles] = {}

    def files(self, node: str) -> MeshFiles:
        """A node's certificate."""
        if node not in self._files:
            self._files[node] = node_files(self.folder, node)
        return self._files[node]

    async def open(
        self,
        me: WorkerId,
        join: Sequence[Place | str] = (),
        *,
        files: MeshFiles | None = None,
        identity: Identity = IDENTITY,
        place: Place | None = None,
        appears: bool = True,
    ) -> Hubs:
        """Add one, which joins nodes by their names, or places."""
        hubs = await Hubs.open(
            me,
            identity,
            files or self.files(me.node),
            place or self.places[me.node],
            [self.places[one] if isinstance(one, str) else one for one in join],
        )
        self._opened.append(hubs)
        if appears:
            hubs.appear()
        return hubs

    async def close(self) -> None:
        """End all."""
        for hubs in self._opened:
            await hubs.close()


@pytest.fixture
async def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    """Nobody yet; who is away is looked for at once."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(module, "MAX_RETRY_SECONDS", 0.01)
    mesh = Mesh(tmp_path)
    yield mesh
    await mesh.close()


async def until(hubs: Hubs, condition: Callable[[], object]) -> None:
    """Return once something is so; each time that the members change it is looked at."""
    changed = asyncio.Event()
    hubs.members.follow(changed.set, lambda _: None)
    while not condition():
        changed.clear()
        await changed.wait()


async def test_who_is_there(mesh: Mesh) -> None:
    """Who joins sees whom there is, and where; who is there sees who joins, and both who goes."""
    first = await mesh.open(FIRST)
    first.appear(WORKER, AT)
    second = await mesh.open(SECOND, ["n1"])
    await second.check()
    await until(first, lambda: SECOND in first.members.others)
    await until(second, lambda: second.members.others == {FIRST, WORKER})
    assert second.members.places[WORKER] == AT
    first.vanish(WORKER)
    await until(second, lambda: second.members.others == {FIRST})
    await second.close()
    await until(first, lambda: SECOND not in first.members.others)


async def test_who_is_not_ready_is_not_seen(mesh: Mesh) -> None:
    """A hub is there once it says so."""
    first = await mesh.open(FIRST)
    second = await mesh.open(SECOND, ["n1"], appears=False)
    await until(second, lambda: FIRST in second.members.others)
    assert not first.members.others
    second.appear()
    await until(first, lambda: SECOND in first.members.others)


async def test_one_is_enough_to_find_all(mesh: Mesh) -> None:
    """Who joins one node finds those that it knows, and is found."""
    first = await mesh.open(FIRST)
    second = await mesh.open(SECOND, ["n1"])
    await until(second, lambda: FIRST in second.members.others)
    third = await mesh.open(THIRD, ["n1"])
    await until(third, lambda: third.members.others == {FIRST, SECOND})
    await until(second, lambda: second.members.others == {FIRST, THIRD})
    await first.close()
    await until(third, lambda: third.members.others == {SECOND})
    assert second.members.others >= {THIRD}


async def test_both_join_each_other(mesh: Mesh) -> None:
    """Whoever opens a wire first, both are there once, and gone once."""
    first = await mesh.open(FIRST, ["n2"])
    second = await mesh.open(SECOND, ["n1"])
    gone: list[WorkerId] = []
    first.members.follow(lambda: None, gone.append)
    await until(first, lambda: SECOND in first.members.others)
    await until(second, lambda: FIRST in second.members.others)
    await second.close()
    await until(first, lambda: not first.members.others)
    assert gone == [SECOND]


async def test_who_comes_back_is_found(mesh: Mesh) -> None:
    """A node that is started anew, and joins nobody, is looked for by who has joined it."""
    first = await mesh.open(FIRST)
    second = await mesh.open(SECOND, ["n1"])
    await until(second, lambda: FIRST in second.members.others)
    await first.close()
    await until(second, lambda: not second.members.others)
    again = FIRST._replace(epoch=9)
    await mesh.open(again)
    await until(second, lambda: second.members.others == {again})


async def test_who_is_not_there_yet(mesh: Mesh) -> None:
    """A node whose `--join` nobody answers starts alone, and finds who comes later."""
    first = await mesh.open(FIRST, ["n2"])
    await first.check()
    second = await mesh.open(SECOND)
    await until(first, lambda: SECOND in first.members.others)
    await until(second, lambda: FIRST in second.members.others)


async def test_itself_among_those_to_join(mesh: Mesh) -> None:
    """One list of places for all nodes will do, whatever they are called there."""
    own = Place("localhost", mesh.places["n2"].port)
    first = await mesh.open(FIRST)
    second = await mesh.open(SECOND, [own, "n2", "n1"])
    await second.check()
    await until(second, lambda: second.members.others == {FIRST})
    await until(first, lambda: first.members.others == {SECOND})


async def test_what_is_told(mesh: Mesh) -> None:
    """The others hear it in order, and from whom; who tells does not."""
    first = await mesh.open(FIRST)
    second = await mesh.open(SECOND, ["n1"])
    told: asyncio.Queue[tuple[WorkerId, bytes]] = asyncio.Queue()
    for hubs in (first, second):
        hubs.listen(lambda worker, data: told.put_nowait((worker, data)))
    await until(first, lambda: SECOND in first.members.others)
    large = bytes(3 * MIB)
    for data in (b"1", large, b"", b"2"):
        first.tell(data)
    assert [await told.get() for _ in range(4)] == [
        (FIRST, data) for data in (b"1", large, b"", b"2")
    ]
    assert told.empty()


async def test_last_words(mesh: Mesh) -> None:
    """What a hub tells before it leaves is heard."""
    first = await mesh.open(FIRST)
    second = await mesh.open(SECOND, ["n1"])
    told: asyncio.Queue[bytes] = asyncio.Queue()
    first.listen(lambda _, data: told.put_nowait(data))
    await until(second, lambda: FIRST in second.members.others)
    second.tell(b"leaves")
    await second.close()
    assert await told.get() == b"leaves"


# -- who is not wanted ----------------------------------------------------------------------------


async def test_two_nodes_of_one_name(mesh: Mesh) -> None:
    """Who joins under the name of a node that is there does not start, and says how to mend it."""
    await mesh.open(FIRST)
    place = Place(HOST, free_port())
    second = await mesh.open(FIRST._replace(epoch=2), ["n1"], place=place, appears=False)
    with pytest.raises(StartError, match="there is a node n1 already: give this one another"):
        await second.check()


async def test_a_name_that_another_node_has(mesh: Mesh) -> None:
    """The name is found out though the node that has it is not the one that was to be joined."""
    await mesh.open(FIRST)
    second = await mesh.open(SECOND, ["n1"])
    await until(second, lambda: FIRST in second.members.others)
    place = Place(HOST, free_port())
    third = await mesh.open(SECOND._replace(epoch=9), ["n1"], place=place, appears=False)
    with pytest.raises(StartError, match="there is a node n2 already"):
        await third.check()


async def test_a_start_beside_another_service(mesh: Mesh) -> None:
    """Who joins asks all nodes first, and does not start where one is of another service."""
    first = await mesh.open(FIRST)
    second = await mesh.open(SECOND, ["n1"], identity=OTHER_DATABASE)
    with pytest.raises(StartError, match="n1 has another accounts database"):
        await second.check()
    assert not first.members.others


async def test_a_certificate_of_another_node(mesh: Mesh) -> None:
    """A hub under another name than its certificate's is refused, and told why."""
    first = await mesh.open(FIRST)
    second = await mesh.open(SECOND, ["n1"], files=mesh.files("n3"))
    with pytest.raises(StartError, match=r"n1 does not want .* is for n3 and not for n2"):
        await second.check()
    assert not first.members.others
    assert not second.members.others


@pytest.mark.parametrize("bad", [of_another_ca, self_signed, ended])
async def test_a_start_with_a_bad_certificate(mesh: Mesh, bad: Callable[[Path], MeshFiles]) -> None:
    """Without a valid certificate of the mesh's CA nobody is told who is there, or is seen."""
    files = bad(mesh.folder)  # of n1
    second = await mesh.open(SECOND)
    first = await mesh.open(FIRST, ["n2"], files=files, identity=OTHER_DATABASE)
    await first.check()  # nobody answers that it is of another service
    assert not first.members.others
    assert not second.members.others


# -- a member that makes no sense -----------------------------------------------------------------


class Member:
    """Somebody with a certificate, who says what it likes."""

    def __init__(self, wire: TlsWire, ear: Ear) -> None:
        self.wire = wire
        self.ear = ear

    @classmethod
    async def join(cls, mesh: Mesh, node: str) -> Member:
        """Become one of a hub's others."""
        introduction = Introduction(SECOND, mesh.places["n2"], IDENTITY)
        door = Door(contexts(mesh.files("n2")), lambda *_: None)
        wire, _ = await door.dial(mesh.places[node], introduction.encode())
        member = cls(wire, Ear())
        wire.begin(member.ear)
        return member

    def say(self, kind: bytes, body: bytes) -> None:
        """Send a frame."""
        self.wire.send([(kind, body)])

    async def until_lost(self) -> None:
        """Wait until the hub has ended the wire."""
        await self.ear.wait_until(lambda: self.ear.reason)


NEWS, PART = b"\x01", b"\x02"
NO_NEWS = [
    b"",
    b"[]",
    b'{"number": "one"}',
    b'{"number": 1, "workers": [[1, -1, ""]]}',
    b'{"number": 1, "workers": [[1, 9223372036854775808, ""]]}',
    b'{"number": 1, "workers": [[65536, 1, ""]]}',
    b'{"number": 1, "workers": [[1, 1, "nowhere"]]}',
    b'{"number": 1, "hubs": ["nowhere"]}',
    b'{"number": 1, "workers": ' + b"[" * 10_000,
]


@pytest.mark.parametrize("body", NO_NEWS)
async def test_news_that_make_no_sense(mesh: Mesh, body: bytes) -> None:
    """They end the wire, and nobody is seen by them."""
    first = await mesh.open(FIRST)
    member = await Member.join(mesh, "n1")
    member.say(NEWS, body)
    await member.until_lost()
    assert not first.members.others


async def test_a_kind_that_is_none(mesh: Mesh) -> None:
    """It ends the wire."""
    await mesh.open(FIRST)
    member = await Member.join(mesh, "n1")
    member.say(b"\x09", b"")
    await member.until_lost()


async def test_a_message_without_end(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the wire before it is too much."""
    monkeypatch.setattr(module, "MAX_BYTES", MIB)
    first = await mesh.open(FIRST)
    told: list[bytes] = []
    first.listen(lambda _, data: told.append(data))
    member = await Member.join(mesh, "n1")
    for _ in range(3):
        member.say(PART, bytes(MIB // 2))
    await member.until_lost()
    assert not told


async def test_who_speaks_for_others(mesh: Mesh) -> None:
    """A node tells of its own workers only, and of no hub but its own."""
    first = await mesh.open(FIRST)
    member = await Member.join(mesh, "n1")
    workers = ((0, SECOND.epoch, ""), (0, 77, ""), (1, 5, str(AT)))
    member.say(NEWS, news.encode(News(1, workers)))
    await until(first, lambda: len(first.members.others) > 1)
    assert first.members.others == {SECOND, WorkerId("n2", 1, 5)}


async def test_news_that_are_late(mesh: Mesh) -> None:
    """What is older than what is known already counts for nothing."""
    first = await mesh.open(FIRST)
    member = await Member.join(mesh, "n1")
    member.say(NEWS, news.encode(News(2, ((0, SECOND.epoch, ""), (1, 5, "")))))
    member.say(NEWS, news.encode(News(1, ((0, SECOND.epoch, ""),))))
    member.say(NEWS, news.encode(News(3, ((0, SECOND.epoch, ""), (1, 5, ""), (2, 6, "")))))
    gone: list[WorkerId] = []
    first.members.follow(lambda: None, gone.append)
    await until(first, lambda: WorkerId("n2", 2, 6) in first.members.others)
    assert not gone


async def test_places_without_end(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are looked for, and no more."""
    monkeypatch.setattr(module, "MAX_PLACES", 4)
    first = await mesh.open(FIRST)
    member = await Member.join(mesh, "n1")
    places = tuple(f"{HOST}:{port}" for port in range(1, 40))
    member.say(NEWS, news.encode(News(1, ((0, SECOND.epoch, ""),), places)))
    await until(first, lambda: SECOND in first.members.others)
    assert len(first._seekers) == 4  # noqa: SLF001


async def test_who_takes_nothing(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a hub that reads nothing is bounded; it misses what is more."""
    monkeypatch.setattr(module, "MAX_UNSENT", MIB)
    first = await mesh.open(FIRST)
    member = await Member.join(mesh, "n1")
    member.say(NEWS, news.encode(News(1, ((0, SECOND.epoch, ""),))))
    await until(first, lambda: SECOND in first.members.others)
    for _ in range(200):  # in one turn, in which nobody reads
        first.tell(bytes(MIB))
    (line,) = first._lines()  # noqa: SLF001
    assert line.wire.unsent < 3 * MIB
    member.wire.close()
