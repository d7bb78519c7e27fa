"""A live session, as code that lists or ends sessions sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipe.errors import Outcome
    from pipe.rights.callers import Caller
    from pipe.stream.topics import Member


class Abroad(Protocol):
    """What a server that stops knows of a session's streams in other workers."""

    @property
    def is_told(self) -> bool:
        """Whether these have told all of it."""

    @property
    def moved_bytes(self) -> int | None:
        """How many bytes they have moved; None if they only wait."""


class LiveSession(Protocol):
    """What others need to know about a session, whichever front it came through."""

    @property
    def caller(self) -> Caller:
        """Who runs it."""

    @property
    def address(self) -> str:
        """Where its client is."""

    @property
    def member(self) -> Member | None:
        """Its place on a topic, if it has one."""

    @property
    def abroad(self) -> Abroad | None:
        """Its streams in other workers, if it has any there."""

    @property
    def paused_seconds(self) -> float:
        """How long slow readers have held it back as a publisher."""

    @property
    def follows(self) -> bool:
        """Whether it only tells what happens, so that it is never done by itself."""

    def hand_over(self) -> None:
        """Let another session of its user go on with its stream, if it holds one."""

    def announce(self, text: str) -> None:
        """Tell its user something."""

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End it now, and tell its user ``text``, or the outcome's own text."""
