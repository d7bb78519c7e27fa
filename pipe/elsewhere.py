"""What a session asks of the other workers of its service, where there are any.

A topic is at home in one worker.  A session on a topic that is at home elsewhere runs there; in the
worker that its client came to, a `Client` hands on what comes from there, and a `Way` takes there
what the client does.  `pipe.mesh` carries both; nothing here knows how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipe.stream.ports import Receipt  # noqa: TC001 - pydantic looks at it

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping

    from pipe.errors import Outcome
    from pipe.events.once import Matter
    from pipe.language.names import TopicName
    from pipe.language.requests import Request
    from pipe.limits.quotas import Holder
    from pipe.rights.callers import Caller
    from pipe.stream.chunks import Chunk


class Size(NamedTuple):
    """A terminal's size, with 0 if it is not known, and whether its user wants colours."""

    columns: int
    rows: int
    colours: bool = True


@dataclass(frozen=True, slots=True)
class Errand:
    """All that another worker needs to know to run a session.

    ``hints`` are lines for clients that send a stream, ``screen`` is the size of the client's
    terminal if an answer can be redrawn there, ``line_end`` what ends a line of an answer, and
    ``client`` what the log says of the client's software.  A ``part`` of a session that runs
    elsewhere too is neither counted nor reported.
    """

    request: Request
    caller: Caller
    address: str
    holders: tuple[Holder, ...]
    hints: tuple[str, ...]
    screen: Size | None
    line_end: str
    client: Mapping[str, str]
    part: bool = False


class Gone(NamedTuple):
    """How a client went.

    ``confirmed`` and ``lost`` are those of `pipe.session.Session.client_gone`.  ``complete`` says
    that it had sent its end of file, which is still on its way.
    """

    outcome: Outcome
    error: str
    confirmed: bool
    lost: bool
    complete: bool


class Facts(NamedTuple):
    """What programs are told of a stream besides its lines; what has not changed is None.

    ``waiting`` is how many readers a publisher waits for, ``receipt`` what became of its stream.
    ``first`` names, to a reader that gets its first byte, that byte's stream and number if they
    are known, and ``alone`` whether one publisher writes it.  ``kept`` is what there is of the
    stream for one whose byte is not there: its name, the first byte, and the one behind the last.
    """

    waiting: int | None = None
    receipt: Receipt | None = None
    first: tuple[str, int] | None = None
    alone: bool = False
    kept: tuple[str, int, int] | None = None


class Way(Protocol):
    """What a client does, on its way to where its session runs.  No call may raise."""

    def send(self, chunk: Chunk) -> None:
        """Take what the client has sent; may call `Client.pause` from inside."""

    def end_input(self) -> None:
        """The client has sent everything."""

    def took(self) -> None:
        """The client has written something, or has become clogged, or no longer is."""

    def stop_reading(self) -> None:
        """The client discards what it gets."""

    def resize(self, size: Size) -> None:
        """The client's terminal has another size."""

    def cut(self, outcome: Outcome, text: str) -> None:
        """The session was ended here."""

    def leave(self, gone: Gone) -> None:
        """The client is gone.  Unless its end of file is on its way, this is the last call."""


class Client(Protocol):
    """A client whose session runs elsewhere, as what comes from there sees it.

    No call may raise.
    """

    @property
    def pending(self) -> int:
        """Bytes given to it and not yet written to its connection."""

    @property
    def clogged(self) -> bool:
        """Whether it takes no more for now."""

    def joined(self) -> None:
        """The session has its place on a topic."""

    def write(self, chunk: Chunk) -> None:
        """Take a chunk, and call `Way.took` once nothing is pending."""

    def pause(self) -> None:
        """Send nothing until `resume`; it starts paused."""

    def resume(self) -> None:
        """Go on; this may send from inside."""

    def tell(self, text: str) -> None:
        """Tell the user a line."""

    def note(self, facts: Facts) -> None:
        """Take what programs are told; it comes before what it is about."""

    def draw(self, line: str, *, last: bool) -> None:
        """Show a line in place of the one before."""

    def answer(self, text: str) -> None:
        """Send a command's answer."""

    def follow(self) -> None:
        """From now on what is written is an answer that goes on."""

    def waited_for(self, others: bool) -> None:
        """Others start or stop waiting for it, as it is clogged (law 4)."""

    def stream_moved(self, count: int | None) -> None:
        """Its streams there have moved so many bytes, or with None they only wait."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """End in order, after the last byte."""

    def cut(self, outcome: Outcome, text: str) -> None:
        """End now."""

    def lose(self, reason: str) -> None:
        """The other worker, or the way there, is gone."""


class Answers(NamedTuple):
    """What the other workers said to a question, and the names of those that have not answered."""

    found: list[str]
    missing: list[str]


class Visit(Protocol):
    """A session's way to where it has to run."""

    @property
    def far(self) -> bool:
        """Whether that is another worker; otherwise it runs here."""

    def carry(self, front: object) -> bool:
        """Move a client there, with all its front has, before anything of its session has begun.

        Returns:
            Whether it is gone; if not, nothing has changed, and it has to `open`.
        """

    def open(self, errand: Errand, client: Client) -> Way:
        """Run the session there."""

    async def announce(self, data: bytes, hold: float) -> tuple[bool, int | None]:
        """Have a short stream of the server's own published there.

        Returns:
            Whether there is room for it, and if it was sent at once, how many read it.

        Raises:
            PipeError: it is not known.
        """

    def settle(self) -> None:
        """The session has joined here, was opened there, or never will."""


class Elsewhere(Protocol):
    """The other workers."""

    def concerns(self, request: Request) -> bool:
        """Whether it depends on a topic or a worker where a request is served."""

    async def find(self, request: Request, topic: TopicName | None) -> Visit:
        """Find out where a session has to run; call `Visit.settle` afterwards in any case.

        Cancelling is safe.

        Args:
            request: what it is for.
            topic: which one that is about, if it is about one.

        Raises:
            PipeError: it cannot be known, or the other worker cannot be reached.
        """

    @property
    def workers(self) -> Collection[Hashable]:
        """The other workers that there are, each with its name as its text."""

    def follow(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have something called when workers have come or gone.

        Returns:
            What ends that.
        """

    async def reach(self, worker: Hashable) -> Visit:
        """Get ready to run a session in one of them; call `Visit.settle` afterwards.

        Raises:
            PipeError: it cannot be reached.
        """

    async def look_at_streams(self) -> None:
        """Have all other workers tell clients here how their streams move, as this one stops.

        See `Client.stream_moved`; of a session that is about to end by itself nothing is told.
        Takes a second at most.
        """

    @property
    def is_first(self) -> bool:
        """Whether this worker has what a service has once."""

    async def ask_first(self, matter: Matter) -> bool:
        """Have the worker that has it deal with something; see `pipe.events.once`.

        Raises:
            PipeError: there is none now, or it does not answer.
        """

    async def ask(self, request: Request, caller: Caller) -> Answers:
        """Ask all other workers what they know, for a request that concerns all.

        Each judges by itself what the caller may know.  Takes a second at most.
        """

    def closed(self, topic: TopicName) -> None:
        """A topic that was at home here is gone, or its last receipt that was kept here.

        While one is kept the topic comes back here, so that whoever asks for it finds it.
        """
