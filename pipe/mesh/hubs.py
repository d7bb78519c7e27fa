"""This machine's hub among those of the others: who is there, and what they tell each other.

Hubs have wires with each other as workers have, behind the same door.  There is a list of places to
join; whoever is there tells of all that it has wires with, so one place is enough.  Each hub opens
a wire to whomever it knows of, unless there is one, and looks again whenever the last one is gone.
Where two have opened one to each other at once both stay: what is told goes on all, and is
numbered.  Who is seen is who has a wire and says that it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

import structlog

from pipe.errors import BadName, StartError, Unreachable
from pipe.language.names import escape
from pipe.language.places import Place
from pipe.language.quantities import KIB, MIB
from pipe.mesh.certificates import contexts
from pipe.mesh.directory import WorkerId
from pipe.mesh.frames import BadFrame
from pipe.mesh.greeting import BadGreeting, Introduction
from pipe.mesh.identity import Identity, disagreement
from pipe.mesh.ledger import MAX_BYTES
from pipe.mesh.members import Members
from pipe.mesh.news import News, decode, encode
from pipe.mesh.tls import Door, TlsWire, misnamed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from pipe.mesh.certificates import MeshFiles
    from pipe.mesh.wire import Pieces

log = structlog.get_logger()

CHECK_SECONDS = 1.0
"""How long a start waits for those whom it knows of; who is later is judged when it answers."""

RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 2.0
"""How soon a place is tried again where nobody was; the pause doubles from the first."""

FORGET_SECONDS = 3600.0
"""How long a place is tried that only others have named: its machine may be no more."""

MAX_PLACES = 256
"""How many places are tried; more machines than make sense without a broker."""

CLOSE_SECONDS = 1.0
"""How long the others have to take the last words."""

MAX_UNSENT = 8 * MIB
"""What waits for a hub before what is told is lost to it; `pipe.mesh.ledger` makes up for that."""

PART = 512 * KIB
"""Bytes of a frame; what is told may be longer."""

_NEWS, _PART, _LAST = b"\x01", b"\x02", b"\x03"
"""What a frame holds: news, or a part or the last part of what is told."""


class _Other:
    """Another hub, while there is a wire to it."""

    def __init__(self, hub: WorkerId, place: Place) -> None:
        self.hub = hub
        self.place = place
        self.lines: list[_Line] = []
        self.number = -1  # of the last news
        self.workers: set[WorkerId] = set()
        self.known = asyncio.Event()  # set by the first news, or as it is gone
        self.gone = asyncio.Event()


class _Line:
    """One wire to another hub: an `End`."""

    def __init__(self, owner: Hubs, other: _Other, wire: TlsWire, *, opened: bool) -> None:
        self.other = other
        self.wire = wire
        self.opened = opened  # by this hub
        self._owner = owner
        self._parts: list[bytes] = []
        self._size = 0

    def received(self, frame: memoryview) -> None:
        """A frame has come."""
        try:
            self._take(bytes(frame[:1]), bytes(frame[1:]))
        except BadFrame as error:
            self.wire.close()
            self.lost(str(error))

    def wire_blocked(self, blocked: bool) -> None:
        """What is unsent is looked at when there is more to tell."""

    def lost(self, reason: str) -> None:
        """The other hub is gone, or does not make sense."""
        self._owner.lost(self, reason)

    def tell(self, frames: Sequence[Pieces]) -> None:
        """Send something that may be lost."""
        if self.wire.unsent <= MAX_UNSENT:
            self.wire.send(frames)

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind == _NEWS:
            self._owner.learn(self.other, decode(body))
            return
        if kind not in {_PART, _LAST}:
            raise BadFrame("a frame of an unknown kind")
        self._size += len(body)
        if self._size > MAX_BYTES:
            raise BadFrame("a message without end")
        self._parts.append(body)
        if kind == _LAST:
            message = b"".join(self._parts)
            self._parts, self._size = [], 0
            self._owner.hear(self.other, message)


class Hubs:
    """One hub's part.  Make it with `Hubs.open`.

    Attributes:
        me: this hub.
        members: who else is there, of all machines.
    """

    def __init__(
        self, introduction: Introduction, both: tuple[ssl.SSLContext, ssl.SSLContext]
    ) -> None:
        self.me = introduction.hub
        self.members = Members()
        self._introduction = introduction
        self._door = Door(both, self._greeted)
        self._others: dict[WorkerId, _Other] = {}
        self._workers: dict[WorkerId, Place | None] = {}  # of this machine
        self._number = 0
        self._seekers: dict[Place, asyncio.Task[None]] = {}
        self._untried: set[Place] = set()
        self._all_tried = asyncio.Event()
        self._all_tried.set()
        self._objection = ""
        self._complaints: dict[str, str] = {}  # by place or node: each is told once
        self._listener: Callable[[WorkerId, bytes], None] = lambda _worker, _data: None

    @classmethod
    async def open(
        cls,
        me: WorkerId,
        identity: Identity,
        files: MeshFiles,
        place: Place,
        join: Sequence[Place] = (),
    ) -> Self:
        """Listen for other hubs, and look for them.

        Args:
            me: this hub.
            identity: what all nodes must have in common.
            files: the node's certificate.
            place: where others reach this hub.
            join: where some may be.

        Raises:
            StartError: the place or the certificates cannot be used.
        """
        hubs = cls(Introduction(me, place, identity), contexts(files))
        await hubs._door.listen(*place)
        for one in join:
            hubs._seek(one, lasting=True)
        return hubs

    async def check(self) -> None:
        """Wait until all whom there are have been asked, and whether they are of this service.

        Raises:
            StartError: one is not; the message says how to mend it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await self._all_tried.wait()
        if self._objection:
            raise StartError(f"cannot join the mesh: {self._objection}")

    def appear(self, worker: WorkerId | None = None, place: Place | None = None) -> None:
        """Let the others see a worker: it can be reached now.

        Args:
            worker: which, of this machine; by default this hub.
            place: where it takes links.
        """
        self._workers[worker or self.me] = place
        self._spread()

    def vanish(self, worker: WorkerId) -> None:
        """Let the others see that a worker of this machine is gone."""
        if worker in self._workers:
            del self._workers[worker]
            self._spread()

    def listen(self, heard: Callable[[WorkerId, bytes], None]) -> None:
        """Be told from now on what others `tell`, and who."""
        self._listener = heard

    def tell(self, data: bytes) -> None:
        """Tell all others, in the order of the calls; a hub that takes too little misses some."""
        parts = [data[start : start + PART] for start in range(0, len(data), PART)] or [b""]
        frames = [(_PART, part) for part in parts[:-1]] + [(_LAST, parts[-1])]
        for line in self._lines():
            line.tell(frames)

    async def close(self) -> None:
        """Leave, once the others have what was told."""
        seekers = list(self._seekers.values())
        for seeker in seekers:
            seeker.cancel()
        await asyncio.gather(self._door.close(), *seekers, return_exceptions=True)
        wires = [line.wire for line in self._lines()]
        for wire in wires:
            wire.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                for wire in wires:
                    await wire.closed.wait()
        for wire in wires:
            wire.close()

    # -- wires ------------------------------------------------------------------------------------

    def _greeted(self, wire: TlsWire, frame: bytes) -> None:
        """Somebody has opened a wire."""
        try:
            other = Introduction.decode(frame)
        except BadGreeting:
            wire.close()
            return
        node, objection = other.hub.node, self._object(wire, other)
        answer = self._introduction._replace(refusal=objection).encode()
        if objection or other.hub == self.me:
            wire.finish((answer,))
            if objection and self._complaints.get(node) != objection:
                self._complaints[node] = objection
                log.error("node refused", node=escape(node), reason=objection)
        else:
            wire.send([(answer,)])
            self._begin(wire, other, opened=False)

    def _begin(self, wire: TlsWire, introduction: Introduction, *, opened: bool) -> _Other:
        hub, place = introduction.hub, introduction.place
        other = self._others.get(hub)
        if other is None:
            other = self._others[hub] = _Other(hub, place)
        self._complaints.pop(hub.node, None)
        line = _Line(self, other, wire, opened=opened)
        other.lines.append(line)
        self._seek(place)
        self._spread()
        wire.begin(line)
        return other

    def _object(self, wire: TlsWire, other: Introduction) -> str | None:
        """Say why this hub wants nothing to do with another one; None if it does."""
        hub = other.hub
        objection = misnamed(wire, hub.node)
        if objection is None and hub.node == self.me.node and hub != self.me:
            objection = f"there is a node {hub.node} already: give this one another --node"
        return objection or disagreement(self._introduction.identity, other.identity, hub.node)

    def lost(self, line: _Line, reason: str) -> None:
        """A wire is gone, and if it was the last one the hub too, and all on its machine."""
        other = line.other
        other.lines.remove(line)
        log.debug("hub lost", node=other.hub.node, reason=reason)
        if other.lines:
            return
        del self._others[other.hub]
        other.known.set()
        other.gone.set()
        for worker in sorted(other.workers, reverse=True):
            self.members.vanished(worker)

    # -- what is told -----------------------------------------------------------------------------

    def _lines(self) -> list[_Line]:
        return [line for other in self._others.values() for line in other.lines]

    def _spread(self) -> None:
        """Tell all others who is on this machine, and where more hubs are."""
        self._number += 1
        workers = tuple(
            (worker.number, worker.epoch, str(place or ""))
            for worker, place in self._workers.items()
        )
        places = tuple(str(other.place) for other in self._others.values())
        news = encode(News(self._number, workers, places))
        for line in self._lines():
            line.wire.send([(_NEWS, news)])

    def learn(self, other: _Other, news: News) -> None:
        """A hub tells who is on its machine.

        Raises:
            BadFrame: it makes no sense.
        """
        if news.number <= other.number:
            return  # it has come on another wire
        try:
            workers = {
                WorkerId(other.hub.node, number, epoch): Place.parse(place) if place else None
                for number, epoch, place in news.workers
                if number or epoch == other.hub.epoch
            }
            places = [Place.parse(place) for place in news.hubs]
        except BadName:
            raise BadFrame("a place that is none") from None
        other.number = news.number
        gone, other.workers = other.workers - workers.keys(), set(workers)
        for worker in gone:
            self.members.vanished(worker)
        for worker, place in workers.items():
            self.members.appeared(worker, place)
        for place in places:
            self._seek(place)
        other.known.set()

    def hear(self, other: _Other, data: bytes) -> None:
        """A hub tells something."""
        self._listener(other.hub, data)

    # -- places -----------------------------------------------------------------------------------

    def _seek(self, place: Place, *, lasting: bool = False) -> None:
        """See to it that there is a wire to whoever is at a place."""
        if (
            place == self._introduction.place
            or place in self._seekers
            or len(self._seekers) >= MAX_PLACES
        ):
            return
        self._untried.add(place)
        self._all_tried.clear()
        task = asyncio.get_running_loop().create_task(self._look_for(place, lasting))
        self._seekers[place] = task
        task.add_done_callback(lambda _: self._forget(place))

    def _forget(self, place: Place) -> None:
        self._tried(place)
        del self._seekers[place]
        self._complaints.pop(str(place), None)

    def _tried(self, place: Place) -> None:
        self._untried.discard(place)
        if not self._untried:
            self._all_tried.set()

    async def _look_for(self, place: Place, lasting: bool) -> None:
        loop = asyncio.get_running_loop()
        pause, missed = RETRY_SECONDS, loop.time()
        while lasting or loop.time() - missed < FORGET_SECONDS:
            other = self._find(place)
            if other is None:
                try:
                    other = await self._dial(place)
                except _Itself:
                    return
                except Unreachable as error:
                    if self._complaints.get(str(place)) != error.message:
                        self._complaints[str(place)] = error.message
                        log.info("node not reached", place=str(place), reason=error.message)
                    self._tried(place)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, MAX_RETRY_SECONDS)
                    continue
            self._complaints.pop(str(place), None)
            await other.known.wait()
            self._tried(place)
            await other.gone.wait()
            pause, missed = RETRY_SECONDS, loop.time()
            await asyncio.sleep(pause)

    def _find(self, place: Place) -> _Other | None:
        return next((one for one in self._others.values() if one.place == place), None)

    async def _dial(self, place: Place) -> _Other:
        """Open a wire to whoever is at a place.

        Raises:
            Unreachable: nobody, or a hub that is not wanted.
            _Itself: this hub.
        """
        wire, answer = await self._door.dial(place, self._introduction.encode())
        try:
            found = Introduction.decode(answer)
        except BadGreeting:
            wire.close()
            raise Unreachable("it is no hub of a mesh") from None
        if found.hub == self.me:
            wire.close()
            raise _Itself
        objection = self._object(wire, found)
        if found.refusal and not objection:
            objection = f"{found.hub.node} does not want this node: {found.refusal}"
        if objection:
            wire.close()
            self._objection = objection
            raise Unreachable(objection)
        other = self._others.get(found.hub)
        if other and any(line.opened for line in other.lines):  # it has several names
            wire.close()
            return other
        return self._begin(wire, found, opened=True)


class _Itself(Exception):
    """A place is this hub's own, by another name."""
