"""What a session asks of the front that its client came through, which is SSH today."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipe.session.intake import Valve
from pipe.stream.ports import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.commands.screen import Screen
    from pipe.errors import Outcome
    from pipe.stream.chunks import Chunk
    from pipe.stream.topics import Member
    from pipe.stream.traffic import Traffic


class Owner(Protocol):
    """What a port tells the session that it belongs to."""

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """The stream is over for this reader; the last byte may still be pending."""

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End now, whatever is pending."""

    def waited_for(self, others: bool) -> None:
        """While clogged: whether other readers wait for this one."""

    def emptied(self) -> None:
        """Nothing is queued any longer."""


class Listener(Protocol):
    """What hears of a sink: the router, or what stands in its place."""

    def update(self, reader: Member) -> None:
        """The sink has become clogged, or no longer is."""

    def flushed(self, reader: Member) -> None:
        """The sink has written everything that it took."""


class Port(Sink, Valve, Protocol):
    """A session's data path: what its client reads goes in, what it sends comes out."""

    @property
    def queued(self) -> int:
        """Bytes taken but not yet handed to the connection.

        `pending` also counts bytes that the connection has yet to write.
        """

    def connect(self, feed: Callable[[Chunk], None]) -> None:
        """Pass what the client sends to ``feed``, chunk by chunk."""

    def bind(self, member: Member, hears: Listener | None = None) -> None:
        """Report this member's sink from now on: to the router, or to whoever ``hears`` instead."""

    def close(self) -> None:
        """Let go of everything, as the client is gone."""


def unwanted(_chunk: Chunk) -> None:
    """What a port is connected to while nobody wants what its client sends."""


class Front(Protocol):
    """One client's way in and out.  No call may raise; `closed` is the last one."""

    def make_port(self, owner: Owner) -> Port:
        """Make the data path; called once, before all others."""

    def tell(self, text: str) -> None:
        """Tell the user something outside the stream: one line without its newline."""

    def draw(self, line: str, *, last: bool) -> None:
        """Show a line in place of the one that was drawn before, or leave it out for now.

        The ``last`` one stays.
        """

    def answer(self, text: str) -> None:
        """Send a command's answer."""

    def screen(self) -> Screen | None:
        """Return the size of the client's terminal, if an answer can be redrawn there."""

    def on_resize(self, resized: Callable[[int], None]) -> None:
        """Call ``resized`` with the columns whenever the size of that terminal changes."""

    @property
    def line_end(self) -> bytes:
        """What ends a line of an answer."""

    def follow(self) -> None:
        """Get ready for an answer that goes on: the port gets lines as they come."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """End in order, as nothing is queued; may be called again until the client is gone."""

    def abort(self, outcome: Outcome, text: str) -> bool:
        """End now: what is queued is lost.

        Returns:
            False if the client has already been told of another end.  It has a moment to confirm
            that one.
        """

    def closed(self, traffic: Traffic) -> None:
        """The session is over; ``traffic`` is what it moved."""

    def log_fields(self) -> dict[str, str]:
        """What the log says about the client's software and its data path."""
