"""Far members of one topic over links that delay and are cut, against one router as the model.

What the home's router was given and what it gave out is the truth.  A far client gets that, all of
it if it ends with 0, or a beginning of it and 74; no receipt says more than clients confirmed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipe.errors import Outcome
from pipe.language.names import TopicName
from pipe.language.requests import Publish, Subscribe
from pipe.mesh.home import FarFront
from pipe.stream.chunks import Backlog, Chunk
from pipe.stream.ports import Mode, Receipt
from pipe.stream.router import Router
from pipe.stream.topics import Member
from pipe.stream.traffic import Traffic
from tests.mesh.simulation import FarClient, Pair, open_session

if TYPE_CHECKING:
    from pipe.elsewhere import Errand
    from pipe.mesh.home import HomeEnd

NAME = TopicName("alice", ("build",))
BUFFER = 4096
MAX_CHUNK_BYTES = 32 * 1024

clients = st.integers(0, 99)
sizes = st.sampled_from([1, 7, 1500, 40_000])


class Guest:
    """A session at the home, without a loop: a source, a port's owner, a front's session."""

    def __init__(self, machine: MeshMachine, end: HomeEnd, number: int, errand: Errand) -> None:
        self.router = machine.router
        self.front = FarFront(end.link, number, errand, self.router, BUFFER, end.forget)
        self.front.session = self
        self.port = self.front.make_port(self)
        self.given = bytearray()  # to a reader, by the router
        self.published = bytearray()
        self.receipt: Receipt | None = None
        self.ended = False  # its stream, by an end of file
        self.closed = False
        self.follows = False
        self._backlog = Backlog()
        self._paused = True
        self._eof = False
        self._pumping = False
        self._orphan = False
        self._ending: tuple[Outcome, int] | None = None
        writes = isinstance(errand.request, Publish)
        if writes:
            self.member = Member(Mode.PUBLISH, source=self, wants=1)
        else:
            self.member = Member(Mode.SUBSCRIBE, sink=self.port)
        self.port.connect(self.feed)
        self.port.bind(self.member)
        if not writes:
            self.port.resume_reading()
        self.router.join(self.member, NAME)

    # -- the source -------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Here it waits on for readers, as one whose client is there."""

    @property
    def lacks_readers(self) -> bool:
        """Whether it waits for readers."""
        return bool(self.member.waiting)

    def feed(self, chunk: Chunk) -> None:
        """Publish a chunk now or later."""
        assert not self._eof, "bytes after the end of file"
        self._backlog.append(chunk)
        self._pump()

    def feed_eof(self) -> None:
        """The end of file."""
        self._eof = True
        self._pump()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        while self._backlog and not self._paused and not self.closed:
            chunk = self._backlog.popleft()
            self.published += chunk.data
            self.router.publish(self.member, chunk)
        self._pumping = False
        if self._paused or self._backlog or self.closed:
            return
        if not self._eof:
            self.port.resume_reading()
        elif not self.ended and self.member.source:
            self.ended = True
            self.router.end(self.member)

    def pause(self) -> None:
        """Publish nothing."""
        self._paused = True
        self.port.pause_reading()

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._pump()

    def waits(self, missing: int) -> None:
        """The router knows."""

    # -- ends -------------------------------------------------------------------------------------

    def finish(self, receipt: Receipt) -> None:
        """The receipt."""
        self.receipt = receipt
        self.end_reading(Outcome.UNDELIVERED if receipt.undelivered else Outcome.DONE, 0)

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """The end, after the last byte."""
        if self._ending is None:
            self._ending = outcome, exit_status or outcome.status
            self.emptied()
        if self.receipt:
            self.router.leave(self.member)
        if self._orphan:
            self._close()

    def emptied(self) -> None:
        """All is written where the client is."""
        if self._ending and not self.port.queued:
            self.front.finish(*self._ending)

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """The end, now."""
        if self._ending is None and self.front.abort(outcome, text):
            self._ending = outcome, outcome.status
            self.router.leave(self.member)

    def stop_reading(self) -> None:
        """Nobody does here."""

    def waited_for(self, others: bool) -> None:
        """The clock is the client's."""

    def client_gone(
        self,
        outcome: Outcome,  # noqa: ARG002
        error: Exception | None = None,  # noqa: ARG002
        *,
        confirmed: bool = False,
        lost: bool = False,  # noqa: ARG002
    ) -> None:
        """Leave, unless the whole stream is here and only waits."""
        if self.closed or self._orphan:
            return
        waits = self._eof and not self.ended and not self._ending
        if waits and not self.lacks_readers and self.member.source:
            self._orphan = True
            return
        self.member.confirmed = confirmed
        self._close()

    def _close(self) -> None:
        self.closed = True
        self.router.leave(self.member)
        self.port.close()
        self.front.closed(Traffic())


class Recorder(Router):
    """A router that remembers what it has given to whom."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[Member, bytearray] = {}

    def _hand(self, reader: Member, chunk: Chunk) -> None:
        before = reader.accepted_bytes
        super()._hand(reader, chunk)
        if reader.accepted_bytes > before:
            self.given.setdefault(reader, bytearray()).extend(chunk.data)


class MeshMachine(RuleBasedStateMachine):
    """Two links with clients that come, write, read, stop reading and go, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Recorder()
        self.guests: dict[FarClient, Guest] = {}
        self.cut: set[Pair] = set()
        self.pairs = [Pair(self._welcome, mark_bytes=1000) for _ in range(2)]
        self.clients: dict[FarClient, Pair] = {}
        self.arriving: dict[Pair, list[FarClient]] = {pair: [] for pair in self.pairs}
        self.serial = 0

    def _welcome(self, end: HomeEnd, number: int, errand: Errand) -> FarFront:
        guest = Guest(self, end, number, errand)
        pair = next(pair for pair in self.pairs if pair.home is end)
        self.guests[self.arriving[pair].pop(0)] = guest
        return guest.front

    def _some(self, choice: int, wanted: list[FarClient]) -> FarClient:
        return wanted[choice % len(wanted)]

    def _here(self) -> list[FarClient]:
        return [one for one in self.clients if not one.gone]

    def _writing(self) -> list[FarClient]:
        return [one for one in self._here() if one.writes and not one.at_end and not one.ending]

    # -- coming and going -------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), bound=st.sampled_from([500, 1 << 20]), writes=st.booleans())
    def come(self, which: int, bound: int, writes: bool) -> None:
        """A client comes to a worker whose link still stands."""
        pair = self.pairs[which]
        if pair in self.cut:
            return
        client = FarClient(bound)
        client.writes = writes
        self.clients[client] = pair
        self.arriving[pair].append(client)
        open_session(pair, client, Publish("build") if writes else Subscribe("build"))

    @precondition(lambda self: self._here())
    @rule(choice=clients)
    def vanish(self, choice: int) -> None:
        """A client goes without a word."""
        self._some(choice, self._here()).hang_up(lost=True)

    @precondition(lambda self: self._here())
    @rule(choice=clients)
    def stop(self, choice: int) -> None:
        """A client's session is ended by its own worker, as it stalls or the server stops."""
        self._some(choice, self._here()).stop()

    @precondition(lambda self: self.guests)
    @rule(choice=clients)
    def expel(self, choice: int) -> None:
        """A session is ended at its home, as a right has ended or the server stops."""
        guests = list(self.guests.values())
        guests[choice % len(guests)].cut(Outcome.DENIED)

    @rule(which=st.integers(0, 1), first=st.booleans(), frames=st.integers(0, 3))
    def cut_link(self, which: int, first: bool, frames: int) -> None:
        """A link is cut: one side notices first, and the other some frames later."""
        pair = self.pairs[which]
        if pair in self.cut or self.serial % 5:  # not all the time
            return
        self.cut.add(pair)
        wires = (pair.up, pair.down) if first else (pair.down, pair.up)
        for _ in range(frames):
            wires[1].deliver()
        pair.cut_at(wires[0])
        pair.cut_at(wires[1])

    # -- bytes ------------------------------------------------------------------------------------

    @precondition(lambda self: self._writing())
    @rule(choice=clients, size=sizes)
    def write(self, choice: int, size: int) -> None:
        """A client writes something that nothing else looks like."""
        self.serial += 1
        self._some(choice, self._writing()).type(f"{self.serial:0{size}}".encode())

    @precondition(lambda self: self._writing())
    @rule(choice=clients)
    def end(self, choice: int) -> None:
        """A client ends its stream."""
        self._some(choice, self._writing()).type_end()

    @precondition(lambda self: any(one.pending for one in self._here()))
    @rule(choice=clients, size=st.none() | sizes)
    def read(self, choice: int, size: int | None) -> None:
        """A client reads."""
        self._some(choice, [one for one in self._here() if one.pending]).take(size)

    @rule(which=st.integers(0, 3), frames=st.integers(1, 9))
    def carry(self, which: int, frames: int) -> None:
        """Some of what is on its way arrives."""
        pair = self.pairs[which % 2]
        if pair not in self.cut:
            for _ in range(frames):
                pair.step(pair.up if which < 2 else pair.down)

    # -- what holds -------------------------------------------------------------------------------

    @invariant()
    def bytes_are_those_of_the_home(self) -> None:
        """Laws 1 and 2: a reader has a beginning of what it was given, a topic one of its input."""
        for client, guest in self.guests.items():
            given = self.router.given.get(guest.member, bytearray())
            assert given.startswith(client.given)
            assert client.sent.startswith(guest.published)

    @invariant()
    def bounds(self) -> None:
        """Law 3: no more is under way than a port and a credit allow."""
        for client, guest in self.guests.items():
            assert guest.port.pending <= BUFFER + MAX_CHUNK_BYTES + (1 << 20) * guest.closed
            assert guest.member.written_bytes <= client.read or guest.closed

    @invariant()
    def whole_or_broken(self) -> None:
        """Law 6: who ends with 0 has everything, up to the end of file of who wrote it."""
        for client, guest in self.guests.items():
            if client.ending == (Outcome.DONE, 0) and not client.writes:
                assert client.given == self.router.given.get(guest.member, bytearray())

    @invariant()
    def receipts(self) -> None:
        """Law 5: a receipt without a loss means that each reader has confirmed all of it."""
        for client, guest in self.guests.items():
            if not guest.receipt or guest.receipt.left_early:
                continue
            assert guest.published == client.sent
            assert guest.receipt.sent_bytes == len(client.sent)
            for reader, other in self.guests.items():
                given = self.router.given.get(other.member, bytearray())
                if not reader.writes and other.closed and client.sent and client.sent in given:
                    assert client.sent in reader.given[: reader.read]

    def _progress(self) -> object:
        """What changes as long as anything moves."""
        return [
            (len(one.given), one.read, len(one.outgoing), one.end_sent, one.ending, one.gone)
            for one in self.clients
        ]

    def teardown(self) -> None:
        """With links that carry, readers that read and ends of files, nothing is stuck."""
        for client in self._writing():
            client.type_end()
        before: object = None
        while before != (now := self._progress()):
            before = now
            standing = [pair for pair in self.pairs if pair not in self.cut]
            while sum(pair.step(wire) for pair in standing for wire in (pair.up, pair.down)):
                pass  # what arrives on one link may send something on the other
            for client in self._here():
                client.take()
        sizes_left = [pair.up.size + pair.down.size for pair in self.pairs if pair not in self.cut]
        assert not any(sizes_left)
        writers = [guest for guest in self.guests.values() if guest.member.source]
        stuck = [one for one in writers if not one.closed and not one.lacks_readers]
        assert not stuck, "a stream that cannot go on"
        for client in self._here():
            client.hang_up()
        for pair in self.pairs:
            if pair not in self.cut:
                pair.settle()
        assert not self.router.statistics().topics


TestMeshMachine = MeshMachine.TestCase
TestMeshMachine.settings = settings(stateful_step_count=40)


@pytest.mark.parametrize("ends", ["home", "client's worker"])
def test_stream_ends_whose_client_has_hung_up(ends: str) -> None:
    """Neither worker waits for the rest of a stream that one of them has ended."""
    machine = MeshMachine()
    machine.come(which=0, bound=500, writes=False)
    machine.come(which=0, bound=500, writes=True)
    pair, (_, writer) = machine.pairs[0], machine.clients
    pair.settle()
    writer.type(bytes(2 << 20))
    writer.type_end()
    pair.settle()
    writer.hang_up()
    pair.settle()
    guest = machine.guests[writer]
    waits = bool(writer.outgoing) and not guest.closed
    assert waits
    if ends == "home":
        guest.cut(Outcome.DENIED)
    else:
        writer.stop()
    pair.settle()
    assert guest.closed
    machine.teardown()
    assert pair.edge.idle
