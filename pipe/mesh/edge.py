"""The client's side of a link: what clients here do, on its way to the homes of their topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import Outcome
from pipe.mesh.errands import read_facts, write_errand, write_gone, write_size
from pipe.mesh.frames import (
    BadFrame,
    Kind,
    pack_end,
    pack_flag,
    pack_mark,
    unpack_end,
    unpack_flag,
    unpack_offset,
    unpack_readers,
    unpack_text,
)
from pipe.mesh.link import PIECE_BYTES
from pipe.stream.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.elsewhere import Client, Errand, Gone, Size
    from pipe.mesh.frames import Frame
    from pipe.mesh.hello import Hello
    from pipe.mesh.link import Link

MARK_BYTES = 256 * 1024
"""How much may be written before the home hears of it, unless there is nothing left to write."""


class Relay:
    """One session's way to its topic's home: a `pipe.elsewhere.Way`.

    Args:
        link: to the home.
        number: the session's on the link.
        client: what it is for.
        left: called with the number when the client is gone.
        mark_bytes: see `MARK_BYTES`.

    Attributes:
        client: what it is for.
    """

    def __init__(
        self,
        link: Link,
        number: int,
        client: Client,
        left: Callable[[int], None],
        mark_bytes: int = MARK_BYTES,
    ) -> None:
        self._mark_bytes = mark_bytes
        self._link = link
        self._number = number
        self.client = client
        self._left = left
        self._sent = 0
        self._credit = 0
        self._open = False  # whether the client may send
        self._came = 0  # bytes for the client
        self._came_chunks = 0
        self._marked = 0
        self._marked_chunks = 0
        self._clogged = False
        self._answer = bytearray()
        self._rest: memoryview | None = None  # of a chunk that is longer than the credit
        self._at_end = False  # the end of file has come, maybe behind the rest
        self._end_sent = False
        self._ended = False  # one of both sides has ended it
        self._gone = False
        self._orphan = False  # the client is gone, and what it sent is waited for

    # -- the client -------------------------------------------------------------------------------

    def send(self, chunk: Chunk) -> None:
        """Send what the client has sent as far as there is credit, and pause it there."""
        self._rest = memoryview(chunk.data)
        self._pump()
        if self._open and self._sent >= self._credit:
            self._open = False
            self.client.pause()

    def _pump(self) -> None:
        rest, most = self._rest, self._credit - self._sent
        if rest is None or most <= 0:
            return
        piece = rest[: min(most, PIECE_BYTES)]
        self._rest = rest[len(piece) :] if len(piece) < len(rest) else None
        self._sent += len(piece)
        self._link.send(Kind.UP, self._number, piece)
        self._pump()

    def end_input(self) -> None:
        """Send the end of file, behind what there is no credit for."""
        self._at_end = True
        if self._rest is None:
            self._send_end()

    def _send_end(self) -> None:
        if not self._end_sent:
            self._end_sent = True
            self._link.send(Kind.END_OF_FILE, self._number)

    def took(self) -> None:
        """Tell the home what is written, and whether the client is clogged."""
        if self._gone:
            return
        self._mark(self._mark_bytes)
        if self.client.clogged is not self._clogged:
            self._clogged = not self._clogged
            self._link.send(Kind.CLOGGED, self._number, pack_flag(self._clogged))

    def _mark(self, least: int) -> None:
        """Say how much is written: all there is, or ``least`` bytes more than was said."""
        pending = self.client.pending
        written = self._came - pending
        if written > self._marked and (not pending or written - self._marked >= least):
            self._marked = written
            self._marked_chunks = self._marked_chunks if pending else self._came_chunks
            self._link.send(Kind.MARK, self._number, pack_mark(written, self._marked_chunks))

    def stop_reading(self) -> None:
        """The client discards what it gets."""
        self._link.send(Kind.DEAF, self._number)

    def resize(self, size: Size) -> None:
        """The client's terminal has another size."""
        self._link.send(Kind.SIZE, self._number, write_size(size))

    def cut(self, outcome: Outcome, text: str) -> None:
        """The session was ended here, unless the home has ended it."""
        if not self._ended and (self._orphan or not self._gone):
            self._ended = True
            self._link.send(Kind.ABORT, self._number, pack_end(outcome, outcome.status, text))
            self._wait_no_more()

    def _wait_no_more(self) -> None:
        """Let the home go, which waits for the end of file of a client that is gone."""
        if self._gone:
            self._rest = None
            self._send_end()

    def leave(self, gone: Gone) -> None:
        """The client is gone."""
        if self._gone:
            return
        self._mark(1)
        self._gone, self._orphan = True, gone.complete
        waits = gone.complete or (self._at_end and self._rest is not None)
        self._link.send(Kind.GONE, self._number, write_gone(gone._replace(complete=waits)))
        if not waits:
            self._left(self._number)

    # -- the link ---------------------------------------------------------------------------------

    def taken(self, frame: Frame) -> None:
        """The home has done something.

        Raises:
            BadFrame: it cannot be.
        """
        body = frame.body
        if frame.kind is Kind.CREDIT:
            self._grant(unpack_offset(body))
        elif frame.kind is Kind.CLOSED:
            self._close()
        elif frame.kind is Kind.FINISH:
            self._end(*unpack_end(body), cut=False)
        elif frame.kind is Kind.CUT:
            self._end(*unpack_end(body), cut=True)
        elif not self._gone:
            self._show(frame.kind, body)

    def _show(self, kind: Kind, body: memoryview) -> None:
        """Give the client what is for its eyes."""
        client = self.client
        match kind:
            case Kind.DOWN:
                self.write(Chunk(bytes(body)))
            case Kind.JOINED:
                client.joined()
            case Kind.TELL:
                client.tell(unpack_text(body))
            case Kind.FACTS:
                client.note(read_facts(body))
            case Kind.DRAW:
                last, line = unpack_flag(body)
                client.draw(line, last=last)
            case Kind.ANSWER:
                self._take_answer(body)
            case Kind.FOLLOW:
                client.follow()
            case Kind.WAITED:
                client.waited_for(unpack_flag(body)[0])
            case _:
                raise BadFrame(f"{kind.name} is not for a client")

    def write(self, chunk: Chunk) -> None:
        """Give the client a chunk; what is written at once is told at once."""
        if self._gone:
            return
        self._came += chunk.size
        self._came_chunks += 1
        self.client.write(chunk)
        self.took()

    def _grant(self, credit: int) -> None:
        self._credit = max(self._credit, credit)
        behind = self._rest is not None
        self._pump()
        if self._rest is not None:
            return
        if behind and self._at_end:
            self._send_end()
        elif not self._open and self._credit > self._sent and (self._orphan or not self._gone):
            self._open = True
            self.client.resume()

    def _end(self, outcome: Outcome, status: int, text: str, *, cut: bool) -> None:
        self._ended = True
        self._wait_no_more()
        if self._gone and not self._orphan:
            return
        if cut:
            self.client.cut(outcome, text)
        else:
            self.client.finish(outcome, status)

    def _take_answer(self, body: memoryview) -> None:
        if not body:
            raise BadFrame("an answer without a beginning")
        self._answer += body[1:]
        if body[0]:
            answer, self._answer = self._answer, bytearray()
            self.client.answer(unpack_text(memoryview(answer)))

    def _close(self) -> None:
        """The session is over there: a client that is waited for may go."""
        self._left(self._number)
        if self._orphan and not self._ended:
            self._ended = True
            self.client.cut(Outcome.LEFT, "")

    def lose(self, reason: str) -> None:
        """The link is gone."""
        if not self._gone or self._orphan:
            self.client.lose(reason)
        self._gone = True


class EdgeEnd:
    """The client's side of one link: a `pipe.mesh.link.User`.

    Args:
        name: of the other worker, for people to read.
        over: called when the link has ended.
        mark_bytes: see `MARK_BYTES`; no more than a quarter of what a port may hold.
        known: called once the other worker has answered, and when the link has ended.
    """

    link: Link

    def __init__(
        self,
        name: str,
        over: Callable[[EdgeEnd, str], None],
        mark_bytes: int = MARK_BYTES,
        known: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._mark_bytes = mark_bytes
        self._over = over
        self._known = known
        self._newest = 0
        self._relays: dict[int, Relay] = {}
        self._questions: dict[int, Callable[[str | None], None]] = {}
        self._answers: dict[int, bytearray] = {}  # those that have come in part
        self.visits = 0  # that may open a session at any time
        self.broke = False  # it has ended with sessions on it

    @property
    def sessions(self) -> int:
        """How many sessions it carries."""
        return len(self._relays)

    @property
    def idle(self) -> bool:
        """Whether nobody needs the link."""
        return not (self._relays or self._questions or self.visits)

    def open(self, errand: Errand, client: Client) -> Relay:
        """Have a session run there.

        Raises:
            UsageError: its request cannot be sent.
        """
        return self._open(Kind.OPEN, write_errand(errand), client)

    def watch(self, order: bytes, client: Client) -> Relay:
        """Watch a topic there; see `pipe.mesh.watching`."""
        return self._open(Kind.WATCH, order, client)

    def _open(self, kind: Kind, data: bytes, client: Client) -> Relay:
        self._newest += 1
        relay = Relay(self.link, self._newest, client, self._forget, self._mark_bytes)
        self._relays[self._newest] = relay
        self.link.send(kind, self._newest, data)
        return relay

    def ask(self, question: str, answered: Callable[[str | None], None]) -> Callable[[], None]:
        """Ask the other worker something.

        Args:
            question: what it understands.
            answered: called with the answer, or with None if there will be none.

        Returns:
            What makes it wait no longer.
        """
        self._newest += 1
        number = self._newest
        self._questions[number] = answered
        self.link.send(Kind.ASK, number, question.encode())

        def forget() -> None:
            self._questions.pop(number, None)
            self._answers.pop(number, None)

        return forget

    @property
    def numbers(self) -> list[int]:
        """Of the sessions that it carries."""
        return list(self._relays)

    def stream_moved(self, number: int, count: int | None) -> None:
        """Tell a client how its streams move, if it is still there."""
        if relay := self._relays.get(number):
            relay.client.stream_moved(count)

    def _forget(self, number: int) -> None:
        self._relays.pop(number, None)

    # -- the link ---------------------------------------------------------------------------------

    def greeted(self, hello: Hello) -> None:  # noqa: ARG002
        """The other worker has said who it is: it was asked for by its address."""
        self._known()

    def taken(self, frame: Frame) -> None:
        """A frame has come.

        Raises:
            BadFrame: it makes no sense.
        """
        if frame.kind is Kind.DOWN_MANY:
            self._spread(frame.body)
        elif frame.kind is Kind.ANSWERED:
            self._take_answer(frame)
        elif frame.session in self._relays:
            self._relays[frame.session].taken(frame)
        elif frame.session > self._newest:
            raise BadFrame("a session that was never opened")
        # Otherwise it was on its way when the client left.

    def _take_answer(self, frame: Frame) -> None:
        if frame.session not in self._questions:
            return  # too late
        if not frame.body:
            raise BadFrame("an answer without a beginning")
        answer = self._answers.setdefault(frame.session, bytearray())
        answer += frame.body[1:]
        if frame.body[0]:
            answered = self._questions.pop(frame.session)
            answered(unpack_text(memoryview(self._answers.pop(frame.session))))

    def _spread(self, body: memoryview) -> None:
        readers, data = unpack_readers(body)
        chunk = Chunk(bytes(data))
        for number in readers:
            if relay := self._relays.get(number):
                relay.write(chunk)

    def blocked(self, blocked: bool) -> None:
        """Credit bounds what waits for the wire."""

    def lost(self, reason: str) -> None:
        """The link has ended: nobody knows what becomes of its streams."""
        self._known()
        relays, self._relays = list(self._relays.values()), {}
        self.broke = bool(relays)
        for relay in relays:
            relay.lose(f"worker {self._name} is gone ({reason})")
        questions, self._questions = list(self._questions.values()), {}
        for answered in questions:
            answered(None)
        self._over(self, reason)
