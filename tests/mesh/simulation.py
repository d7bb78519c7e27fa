"""A link without a network: what is sent waits until a test delivers it, or cuts the link.

Both ends are the real ones, and so is all that is between them and the wire.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NoReturn

from pipe.elsewhere import Errand, Gone
from pipe.errors import Outcome
from pipe.language.requests import Publish
from pipe.mesh.directory import WorkerId
from pipe.mesh.edge import EdgeEnd
from pipe.mesh.hello import PROTOCOL, Hello
from pipe.mesh.home import FarFront, HomeEnd
from pipe.mesh.link import Link
from pipe.rights.callers import Caller
from pipe.stream.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipe.elsewhere import Facts, Size, Way
    from pipe.language.requests import Request
    from pipe.mesh.wire import End, Pieces

PACKET_BYTES = 32 * 1024
"""What a client sends at once, at most."""

WATER_BYTES = 1 << 20
"""Unsent bytes from which on a wire is blocked."""


class MemoryWire:
    """One direction and its end: a `pipe.mesh.wire.Wire`.

    Attributes:
        other: the end that hears what is sent here.
        queue: what is on its way.
    """

    other: End
    end: End

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self.size = 0
        self.blocked = False
        self.closed = False
        self.rtt = None

    @property
    def unsent(self) -> int:
        """How many bytes are on their way."""
        return self.size

    def send(self, frames: Sequence[Pieces]) -> None:
        """Put frames on their way."""
        if self.closed:
            return
        for frame in frames:
            self.queue.append(b"".join(frame))
            self.size += len(self.queue[-1])
        self._look()

    def _look(self) -> None:
        blocked = self.size > (WATER_BYTES // 4 if self.blocked else WATER_BYTES)
        if blocked is not self.blocked:
            self.blocked = blocked
            self.end.wire_blocked(blocked)

    def deliver(self) -> bool:
        """Let one frame arrive, and return whether there was one."""
        if not self.queue:
            return False
        frame = self.queue.popleft()
        self.size -= len(frame)
        self.other.received(memoryview(frame))
        self._look()
        return True

    def close(self) -> None:
        """What is on its way is lost; the other end learns of it by `Pair.step`."""
        self.closed = True
        self.queue.clear()


class Pair:
    """A link between the worker ``2``, which has the clients, and the home ``1``.

    Args:
        welcome: makes a session at the home, as `pipe.mesh.mesh.Mesh` does.
        mark_bytes: how much is written before the home hears of it.
    """

    def __init__(
        self, welcome: Callable[[HomeEnd, int, Errand], FarFront], mark_bytes: int = 1
    ) -> None:
        self.due: list[Callable[[], None]] = []
        self.lost: list[str] = []
        self.edge = EdgeEnd("1", lambda _, reason: self.lost.append(reason), mark_bytes)
        self.home = HomeEnd(
            welcome, no_watch, lambda *_: None, lambda _, reason: self.lost.append(reason)
        )
        self.up, self.down = MemoryWire(), MemoryWire()
        self._connect(self.edge, self.up, WorkerId("", 2, 1))
        self._connect(self.home, self.down, WorkerId("", 1, 1))
        self.up.other, self.down.other = self.home.link, self.edge.link
        for end, wire in ((self.edge, self.up), (self.home, self.down)):
            end.link.attach(wire)

    def _connect(self, end: EdgeEnd | HomeEnd, wire: MemoryWire, worker: WorkerId) -> None:
        end.link = Link(Hello(PROTOCOL, "0", worker), end, lambda: self.due.append(end.link.flush))
        wire.end = end.link

    def step(self, wire: MemoryWire) -> bool:
        """End a turn, then let one frame arrive; return whether anything happened."""
        due, self.due = self.due, []
        for flush in due:
            flush()
        if wire.closed or self._other(wire).closed:
            self.cut()
        return wire.deliver() or bool(due)

    def _other(self, wire: MemoryWire) -> MemoryWire:
        return self.down if wire is self.up else self.up

    def settle(self) -> None:
        """Let all arrive."""
        while self.step(self.up) or self.step(self.down):
            pass

    def cut(self) -> None:
        """Lose the link, and what is on its way."""
        self.cut_at(self.up)
        self.cut_at(self.down)

    def cut_at(self, wire: MemoryWire) -> None:
        """Let one end notice that the link is gone."""
        wire.close()
        wire.end.lost("cut")


def no_watch(*_: object) -> NoReturn:
    """Nobody watches here."""
    raise AssertionError


def errand(request: Request) -> Errand:
    """An errand of alice's."""
    return Errand(request, Caller("alice", "SHA256:alice"), "somewhere", (), (), None, "\n", {})


class FarClient:
    """A client whose session is at the home; it reads and writes when it is told to.

    Args:
        bound: bytes from which on it is clogged, until a quarter of them is left.
        confirms: whether it answers the end by itself.
    """

    way: Way

    def __init__(self, bound: int, *, confirms: bool = True) -> None:
        self._bound = bound
        self.confirms = confirms
        self.writes = False
        self.given = bytearray()
        self.read = 0
        self.clogged = False
        self.paused = True
        self.outgoing = bytearray()
        self.sent = bytearray()  # all that it has written
        self.at_end = False
        self.end_sent = False
        self.ending: tuple[Outcome, int] | None = None
        self.ended_at = 0  # bytes that had been given then
        self.lost = False
        self.gone = False
        self.has_joined = False
        self.told: list[str] = []
        self.facts: list[Facts] = []
        self.answered = ""
        self.others_wait = False
        self._sending = False

    # -- what it does -----------------------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """What it exits with, once it has read all before its end."""
        return self.ending[1] if self.ending and self.gone else None

    def take(self, size: int | None = None) -> bytes:
        """Read so many bytes, or all there are."""
        start = self.read
        self.read = min(len(self.given), start + size) if size is not None else len(self.given)
        if self.clogged and self.pending * 4 <= self._bound:
            self.clogged = False
        if not self.gone:
            self.way.took()
            self._notice()
        return bytes(self.given[start : self.read])

    def type(self, data: bytes) -> None:
        """Write."""
        self.sent += data
        self.outgoing += data
        self._send()

    def type_end(self) -> None:
        """End what it writes."""
        self.at_end = True
        self._send()

    def hang_up(self, *, lost: bool = False) -> None:
        """Go, whatever is under way."""
        if not self.gone:
            complete = self.at_end and not self.end_sent
            self.gone = not complete
            self.confirms = False
            self.way.leave(Gone(Outcome.LEFT, "", confirmed=False, lost=lost, complete=complete))

    def stop(self) -> None:
        """Its session is ended by its own worker."""
        self.way.cut(Outcome.STALLED, "")
        self.cut(Outcome.STALLED, "")
        self.gone = True

    def confirm(self) -> None:
        """Answer the end."""
        if not self.gone:
            self.gone = True
            self.way.leave(Gone(Outcome.LEFT, "", confirmed=True, lost=False, complete=False))

    def _notice(self) -> None:
        if self.ending and not self.pending and self.confirms:
            self.confirm()

    def _send(self) -> None:
        if self._sending:
            return
        self._sending = True
        while self.outgoing and not self.paused:
            piece = bytes(self.outgoing[:PACKET_BYTES])
            del self.outgoing[: len(piece)]
            self.way.send(Chunk(piece))
        self._sending = False
        if self.at_end and not (self.outgoing or self.paused or self.end_sent):
            self.end_sent = True
            self.way.end_input()

    # -- what comes -------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """What it has not read."""
        return len(self.given) - self.read

    def joined(self) -> None:
        """It is on a topic."""
        self.has_joined = True

    def write(self, chunk: Chunk) -> None:
        """Bytes."""
        assert not self.ending, "bytes after the end"
        self.given += chunk.data
        if self.pending >= self._bound:
            self.clogged = True

    def pause(self) -> None:
        """Send no more."""
        assert not self.paused, "paused twice"
        self.paused = True

    def resume(self) -> None:
        """Go on."""
        assert self.paused, "resumed twice"
        self.paused = False
        self._send()

    def tell(self, text: str) -> None:
        """A line."""
        self.told.append(text)

    def note(self, facts: Facts) -> None:
        """Something for programs."""
        self.facts.append(facts)

    def draw(self, line: str, *, last: bool) -> None:
        """A line, in place of another."""

    def answer(self, text: str) -> None:
        """An answer."""
        self.answered = text

    def follow(self) -> None:
        """An answer that goes on."""

    def stream_moved(self, count: int | None) -> None:
        """Nobody stops here."""

    def waited_for(self, others: bool) -> None:
        """Others wait, or no longer."""
        self.others_wait = others

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """The end, once all is read."""
        assert not self.ending, "ended twice"
        self.ending = outcome, exit_status
        self.ended_at = len(self.given)
        self._send_no_more()
        self._notice()

    def cut(self, outcome: Outcome, text: str) -> None:
        """The end, now."""
        if self.ending is None:
            self.ending = outcome, outcome.status
            self.ended_at = self.read
        self.told.append(text)
        self._send_no_more()
        self.hang_up()

    def _send_no_more(self) -> None:
        """Its session discards what it sends, and whether that was all."""
        self.outgoing.clear()
        self.end_sent = True

    def lose(self, reason: str) -> None:
        """The link is gone."""
        self.lost = True
        if self.ending is None:
            self.ending = Outcome.BROKEN, Outcome.BROKEN.status
            self.ended_at = self.read
        self.told.append(reason)
        self.gone = True

    def resize(self, size: Size) -> None:
        """Its terminal has another size."""
        self.way.resize(size)


def open_session(pair: Pair, client: FarClient, request: Request | None = None) -> FarClient:
    """Have a client's session run at the home."""
    client.way = pair.edge.open(errand(request or Publish("build")), client)
    return client
