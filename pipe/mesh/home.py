"""The home's side of a link: sessions of clients that are in another worker.

A `FarFront` is such a session's front, as a channel is for a client that is here: the session
notices no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipe.commands.screen import Screen
from pipe.elsewhere import Facts
from pipe.errors import Outcome
from pipe.language.names import escape
from pipe.language.requests import Subscribe
from pipe.mesh.errands import read_errand, read_gone, read_size, write_facts
from pipe.mesh.frames import (
    BadFrame,
    Kind,
    pack_end,
    pack_flag,
    unpack_end,
    unpack_flag,
    unpack_mark,
    unpack_text,
)
from pipe.mesh.port import FarPort
from pipe.session.past import first_byte
from pipe.session.relayed import name_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipe.elsewhere import Errand, Gone
    from pipe.mesh.directory import WorkerId
    from pipe.mesh.frames import Frame
    from pipe.mesh.hello import Hello
    from pipe.mesh.link import Link
    from pipe.session.front import Owner
    from pipe.stream.ports import Receipt
    from pipe.stream.router import Router
    from pipe.stream.topics import Member
    from pipe.stream.traffic import Traffic

MAX_SESSIONS = 100_000
"""Sessions of one link: more than a worker has clients."""

ANSWER_BYTES = 256 * 1024
"""An answer is sent in pieces of this size, and put together again."""


def in_pieces(answer: str) -> Iterator[tuple[bool, bytes]]:
    """Cut an answer, and say which piece is the last."""
    data = answer.encode()
    for start in range(0, max(len(data), 1), ANSWER_BYTES):
        yield start + ANSWER_BYTES >= len(data), data[start : start + ANSWER_BYTES]


class Guest(Protocol):
    """What a far front needs of its session, which is a `pipe.session.Session`."""

    @property
    def member(self) -> Member | None:
        """What it is on its topic, if it is on one."""

    @property
    def receipt(self) -> Receipt | None:
        """What became of its stream, if that is known."""

    @property
    def lacks_readers(self) -> bool:
        """Whether it is a publisher that waits for readers to come."""

    @property
    def follows(self) -> bool:
        """Whether it only tells what happens, so that it is never done by itself."""

    def feed_eof(self) -> None:
        """The client has sent everything."""

    def abandon(self) -> None:
        """The client is gone, and the rest of its stream is on its way."""

    def stop_reading(self) -> None:
        """The client discards what it gets."""

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End now."""

    def client_gone(
        self,
        outcome: Outcome,
        error: Exception | None = None,
        *,
        confirmed: bool = False,
        lost: bool = False,
    ) -> None:
        """The client is gone."""


def _ignore(_: int) -> None:
    """Nobody wants to know the width of the terminal."""


class Far(Exception):
    """Why a client in another worker is gone, for the log."""


class FarFront:
    """The front of one session: a `pipe.session.front.Front`.

    Args:
        link: to the worker that has the client.
        number: the session's on the link.
        errand: what that worker has told.
        router: where its topic is.
        buffer: bytes that the port may have pending before it is clogged.
        closed: called with the number when the session is over.
    """

    session: Guest

    def __init__(
        self,
        link: Link,
        number: int,
        errand: Errand,
        router: Router,
        buffer: int,
        closed: Callable[[int], None],
    ) -> None:
        self._link = link
        self._number = number
        self._errand = errand
        self._router = router
        self._buffer = buffer
        self._closed = closed
        self._screen = Screen(*errand.screen) if errand.screen else None
        self._resized: Callable[[int], None] = _ignore
        self._told = False  # of an end
        self._receipt_told = False
        self._waiting = 0  # readers, as the client knows
        self._left: Gone | None = None  # the client, whose end of file is on its way

    # -- the session ------------------------------------------------------------------------------

    def make_port(self, owner: Owner) -> FarPort:
        """Make the data path."""
        self.port = FarPort(owner, self._link, self._number, self._router, self._buffer)
        self.port.on_first = self._first
        return self.port

    def _note(self, facts: Facts) -> None:
        self._link.send(Kind.FACTS, self._number, write_facts(facts))

    def _first(self) -> None:
        """The first chunk is about to be sent."""
        member = self.session.member
        if member and isinstance(self._errand.request, Subscribe):
            writers = [one for one in member.topic.everybody if one.source] if member.topic else []
            self._note(Facts(first=first_byte(member), alone=len(writers) == 1))

    def _note_receipt(self) -> None:
        """Send a receipt as soon as there is one, before the line that says the same."""
        if self.session.receipt and not self._receipt_told:
            self._receipt_told = True
            self._note(Facts(receipt=self.session.receipt))

    def tell(self, text: str) -> None:
        """Send a line for the user."""
        member = self.session.member
        waiting = member.waiting if member else 0
        if waiting != self._waiting:
            self._waiting = waiting
            self._note(Facts(waiting=waiting))
        self._note_receipt()
        self._link.send(Kind.TELL, self._number, text.encode())

    def draw(self, line: str, *, last: bool) -> None:
        """Send a line that replaces the one before; where the client is, it may be left out."""
        self._link.send(Kind.DRAW, self._number, pack_flag(last, line))

    def answer(self, text: str) -> None:
        """Send a command's answer, in pieces."""
        for last, piece in in_pieces(text):
            self._link.send(Kind.ANSWER, self._number, bytes((last,)), piece)

    def screen(self) -> Screen | None:
        """Return the size of the client's terminal."""
        return self._screen

    def on_resize(self, resized: Callable[[int], None]) -> None:
        """Call it from now on."""
        self._resized = resized

    @property
    def line_end(self) -> bytes:
        """What ends a line where the client is."""
        return self._errand.line_end.encode()

    def follow(self) -> None:
        """Begin an answer that goes on."""
        self._link.send(Kind.FOLLOW, self._number)

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Send the end, once."""
        if not self._told:
            self._told = True
            self._note_receipt()
            if outcome is Outcome.LATE and not self.session.receipt:
                self._tell_what_is_kept()
            self._link.send(Kind.FINISH, self._number, pack_end(outcome, exit_status))

    def _tell_what_is_kept(self) -> None:
        _, name = name_topic(self._errand.request, self._errand.caller)
        history = self._router.history(name) if name else None
        if history:
            kept = history.kept
            self._note(Facts(kept=(kept.stream, kept.first, kept.end)))

    def abort(self, outcome: Outcome, text: str) -> bool:
        """Send an end for now; the client's own front knows whether it was told of another."""
        told, self._told = not self._told, True
        self._link.send(Kind.CUT, self._number, pack_end(outcome, outcome.status, text))
        return told

    def closed(self, traffic: Traffic) -> None:  # noqa: ARG002
        """The session is over; a client that hung up before its end of file may go."""
        self._link.send(Kind.CLOSED, self._number)
        self._closed(self._number)
        self._resized = _ignore
        del self.session

    def log_fields(self) -> dict[str, str]:
        """What the log says of the client's software."""
        return dict(self._errand.client)

    # -- the link ---------------------------------------------------------------------------------

    def taken(self, frame: Frame) -> None:
        """The client has done something.

        Raises:
            BadFrame: it cannot be.
        """
        body = frame.body
        match frame.kind:
            case Kind.UP:
                self.port.deliver(bytes(body))
            case Kind.MARK:
                self.port.mark(*unpack_mark(body))
            case Kind.CLOGGED:
                self.port.clog(unpack_flag(body)[0])
            case Kind.END_OF_FILE:
                self._end_of_file()
            case Kind.DEAF:
                self.session.stop_reading()
            case Kind.SIZE:
                self._screen = Screen(*read_size(body))
                self._resized(self._screen.columns)
            case Kind.ABORT:
                outcome, _, text = unpack_end(body)
                self.session.cut(outcome, text)
            case Kind.GONE:
                self._gone(read_gone(body))
            case _:
                raise BadFrame(f"{frame.kind.name} is not for a home")

    def _end_of_file(self) -> None:
        self.session.feed_eof()
        if self._left:
            self._client_gone(self._left)

    def _gone(self, gone: Gone) -> None:
        if gone.complete and not self.session.lacks_readers:
            self._left = gone  # as any client that has sent its whole stream, once it is here
            self.session.abandon()
        else:
            self._client_gone(gone)

    def _client_gone(self, gone: Gone) -> None:
        self.port.lose()
        error = Far(gone.error) if gone.error else None
        self.session.client_gone(gone.outcome, error, confirmed=gone.confirmed, lost=gone.lost)

    def lose(self, reason: str) -> None:
        """The link is gone, and the client with it, as when a connection is lost."""
        self.port.lose()
        self.session.client_gone(Outcome.LEFT, Far(reason), lost=True)


class Visitor(Protocol):
    """Who is here for somebody in another worker: a `FarFront`, or a watch."""

    port: FarPort

    def taken(self, frame: Frame) -> None:
        """Something has been done there.

        Raises:
            BadFrame: it cannot be.
        """

    def lose(self, reason: str) -> None:
        """The link is gone."""


class HomeEnd:
    """The home's side of one link: a `pipe.mesh.link.User`.

    Args:
        welcome: makes a session of an errand, and returns its front.
        watch: begins to watch a topic, of which it gets the order.
        ask: called with the number of a question, and the question.
        over: called when the link has ended.
        known: called once it is known who the other worker is.
        sender: who it has to be, where that is known by its certificate.
    """

    link: Link

    def __init__(
        self,
        welcome: Callable[[HomeEnd, int, Errand], FarFront],
        watch: Callable[[HomeEnd, int, memoryview], Visitor],
        ask: Callable[[HomeEnd, int, str], None],
        over: Callable[[HomeEnd, str], None],
        known: Callable[[], None] = lambda: None,
        sender: WorkerId | None = None,
    ) -> None:
        self._sender = sender
        self._welcome = welcome
        self._watch = watch
        self._ask = ask
        self._over = over
        self._known = known
        self.fronts: dict[int, Visitor] = {}
        self._newest = 0
        self.hello: Hello | None = None

    def greeted(self, hello: Hello) -> None:
        """The other worker has said who it is."""
        if self._sender not in {None, hello.worker}:
            self.link.fail(f"it calls itself {escape(str(hello.worker))}")
            return
        self.hello = hello
        self._known()

    @property
    def worker(self) -> WorkerId:
        """Who that is; sessions come after its greeting only."""
        if self.hello is None:
            raise BadFrame("no greeting")
        return self.hello.worker

    def taken(self, frame: Frame) -> None:
        """A frame has come: for a session, or for a new one.

        Raises:
            BadFrame: it makes no sense.
        """
        number = frame.session
        front = self.fronts.get(number)
        if front:
            front.taken(frame)
        elif frame.kind is Kind.OPEN or frame.kind is Kind.WATCH:
            self._open(frame.kind, number, frame.body)
        elif frame.kind is Kind.ASK:
            self._ask(self, number, unpack_text(frame.body))
        elif number > self._newest:
            raise BadFrame("a session that was never opened")
        # Otherwise it was on its way when the session ended.

    def _open(self, kind: Kind, number: int, body: memoryview) -> None:
        if number <= self._newest or len(self.fronts) >= MAX_SESSIONS:
            raise BadFrame("a session's number that cannot be")
        self._newest = number
        if kind is Kind.OPEN:
            self.fronts[number] = self._welcome(self, number, read_errand(body))
        else:
            self.fronts[number] = self._watch(self, number, body)

    def forget(self, number: int) -> None:
        """A session is over."""
        self.fronts.pop(number, None)

    def blocked(self, blocked: bool) -> None:  # noqa: ARG002
        """All ports on the link are clogged with it, and free with it."""
        for front in list(self.fronts.values()):
            front.port.link_changed()

    def lost(self, reason: str) -> None:
        """The link has ended: all its clients are gone."""
        for front in list(self.fronts.values()):
            front.lose(reason)
        self._over(self, reason)
