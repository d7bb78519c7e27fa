"""A client whose session runs in another worker: bytes, lines and ends pass through here.

`pipe.session.Session` still owns the client, as its front knows no other; it hands on what the
client does, and ends as it is told to.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipe.commands import input_limit
from pipe.elsewhere import Errand, Size
from pipe.errors import Outcome
from pipe.language.account_requests import GrantAccess, RevokeAccess
from pipe.language.chat_requests import Chat
from pipe.language.log_requests import Logs
from pipe.language.names import TopicName, parse_topic, random_path
from pipe.language.past import Offset
from pipe.language.progress_requests import Stat, Top
from pipe.language.requests import Explain, Pipe, Publish, Subscribe
from pipe.session.joining import name_of
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipe.elsewhere import Facts, Gone, Visit, Way
    from pipe.language.requests import Request
    from pipe.limits.quotas import Holder
    from pipe.rights.callers import Caller
    from pipe.session.front import Front, Port
    from pipe.session.intake import Intake
    from pipe.stream.chunks import Chunk
    from pipe.stream.ports import Receipt


@contextmanager
def visits(visit: Visit | None) -> Iterator[None]:
    """Settle a visit afterwards."""
    try:
        yield
    finally:
        if visit:
            visit.settle()


def name_topic(request: Request, caller: Caller) -> tuple[Request, TopicName | None]:
    """Return the topic that a request is about, if it is one, and the request that names it.

    Raises:
        BadName: the name is not valid.
    """
    match request:
        case Publish() | Subscribe() | Pipe():
            if request.topic is None:
                request = replace(request, topic=random_path())
            name = name_of(request, caller)
            return request, name if isinstance(name, TopicName) else None
        case Chat():
            return request, parse_topic(request.topic, caller=caller.user, public=request.public)
        case Stat() | Offset() | Explain() | GrantAccess() | RevokeAccess():
            return request, parse_topic(request.topic, caller=caller.user)
        case _:
            return request, None


class Visitor(NamedTuple):
    """Whose session it is."""

    caller: Caller
    address: str
    holders: tuple[Holder, ...]


def make_errand(
    front: Front, visitor: Visitor, request: Request, hints: Sequence[str] = ()
) -> Errand:
    """Write down what another worker has to know to run a session."""
    screen = front.screen()
    return Errand(
        request,
        visitor.caller,
        visitor.address,
        visitor.holders,
        tuple(hints),
        Size(*screen) if screen else None,
        front.line_end.decode(),
        front.log_fields(),
    )


class Relaying(Protocol):
    """What a relayed client needs of its session."""

    facts: Facts | None
    receipt: Receipt | None

    def end(self, outcome: Outcome, text: str = "", *, exit_status: int | None = None) -> None:
        """End in order."""

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End now."""

    def waited_for(self, others: bool) -> None:
        """Run the clock of law 4 while others wait."""


class Relayed:
    """A session's client, for the worker in which the session runs: a `pipe.elsewhere.Client`.

    It stands in the router's place for the port and for the intake.

    Args:
        session: ends as it is told to.
        front: the client's way out.
        port: its data path.
        intake: what it sends.
    """

    way: Way

    def __init__(self, session: Relaying, front: Front, port: Port, intake: Intake) -> None:
        self._session = session
        self._front = front
        self._port = port
        self._intake = intake
        self._flushing = False
        self.member = Member(Mode.SUBSCRIBE, sink=port)  # on no topic of this worker
        self.follows = False
        self.lost = False
        self.is_told = False
        self.moved_bytes: int | None = None

    def start(self, visit: Visit, visitor: Visitor, request: Request, hints: Sequence[str]) -> None:
        """Have the session run elsewhere."""
        self._request = request
        self.way = visit.open(make_errand(self._front, visitor, request, hints), self)
        self._front.on_resize(self._resize)
        if _has_input(request):
            self._intake.divert(self)
        else:
            self._intake.drain()

    def _resize(self, _columns: int) -> None:
        screen = self._front.screen()
        if screen:
            self.way.resize(Size(*screen))

    def stop_reading(self) -> bool:
        """Say that the client discards what it gets, and return whether that is its end.

        It may close at once, and would not hear what the other worker says to that.
        """
        if isinstance(self._request, Publish) and self._intake.at_end:
            return False
        self.way.stop_reading()
        return self.follows or isinstance(self._request, (Publish, Subscribe, Pipe, Chat))

    def leave(self, gone: Gone) -> None:
        """The client is gone."""
        self.way.leave(gone)

    # -- the intake: what the client sends --------------------------------------------------------

    def publish(self, member: Member, chunk: Chunk) -> None:  # noqa: ARG002
        """Pass it on."""
        self.way.send(chunk)

    def deal(self, member: Member, records: Chunk, separator: bytes) -> int:  # noqa: ARG002
        """Records are cut where the topic is at home: here there are none."""
        self.way.send(records)
        return 0

    def end(self, member: Member) -> None:  # noqa: ARG002
        """Pass it on."""
        self.way.end_input()

    def pause(self) -> None:
        """Take nothing more from the client."""
        self._intake.pause()

    def resume(self) -> None:
        """Go on."""
        self._intake.resume()

    # -- the port: what it reads ------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Bytes that the port has yet to write."""
        return self._port.pending

    @property
    def clogged(self) -> bool:
        """Whether the port is."""
        return self._port.clogged

    def joined(self) -> None:
        """Hear from now on what becomes of what is written."""
        self._port.bind(self.member, self)

    def write(self, chunk: Chunk) -> None:
        """Give the port a chunk, and have it say when it is written."""
        self.member.accepted_bytes += chunk.size
        self.member.accepted_chunks += 1
        self._port.write(chunk)
        if not self._flushing:
            self._flushing = True
            self._port.flush()

    def update(self, reader: Member) -> None:  # noqa: ARG002
        """The port is clogged, or no longer is."""
        self.way.took()

    def flushed(self, reader: Member) -> None:  # noqa: ARG002
        """The port has written everything."""
        self._flushing = False
        self.way.took()

    def emptied(self) -> None:
        """Nothing is queued any longer."""
        self.way.took()

    # -- what comes besides -----------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """Pass it on."""
        self._front.tell(text)

    def note(self, facts: Facts) -> None:
        """Keep it for the front that asks for it."""
        if facts.waiting is not None:
            self.member.waiting = facts.waiting
        else:
            self._session.facts = facts
            self._session.receipt = facts.receipt

    def draw(self, line: str, *, last: bool) -> None:
        """Pass it on."""
        self._front.draw(line, last=last)

    def answer(self, text: str) -> None:
        """Pass it on."""
        self._front.answer(text)

    def follow(self) -> None:
        """Get ready."""
        self.follows = True
        self._front.follow()

    def waited_for(self, others: bool) -> None:
        """The clock runs here, where each byte that is read is seen."""
        self._session.waited_for(others)

    def stream_moved(self, count: int | None) -> None:
        """Keep it, as this server stops: it is a `pipe.rights.live.Abroad`."""
        self.is_told, self.moved_bytes = True, count

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """End in order; the user has been told the text."""
        self._session.end(outcome, exit_status=exit_status)

    def cut(self, outcome: Outcome, text: str) -> None:
        """End now."""
        self._session.cut(outcome, text)

    def lose(self, reason: str) -> None:
        """End now: nobody knows any longer what becomes of the stream."""
        self.lost = True
        self._session.cut(Outcome.BROKEN, f"the stream broke: {reason}")


def _has_input(request: Request) -> bool:
    match request:
        case Publish() | Pipe() | Chat():
            return True
        case Subscribe() | Logs() | Top():
            return False
        case _:
            return bool(input_limit(request))
