"""What a POST is, and what came of it; `pipe.web.outgoing` sends them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_SECONDS = 10.0
"""How long a POST may take in all, with looking up the name and reading the answer."""

USER_AGENT = "pipe"


class Result(enum.Enum):
    """What came of a POST; the ``result`` label of the metric."""

    DELIVERED = "delivered"
    """Answered with a status 2xx."""
    GONE = "gone"
    """Answered with 410: the receiver wants no more."""
    REFUSED = "refused"
    """Answered with another status."""
    TIMEOUT = "timeout"
    FAILED = "failed"
    """There was no connection, or no answer that is HTTP."""
    ADDRESS = "address"
    """The address is one that nothing may be sent to."""


class Answer(NamedTuple):
    """What came of a POST."""

    result: Result
    text: str
    """For people: ``answered 200``."""
    status: int = 0
    retry_after: float | None = None
    """For how many seconds the receiver asks to be left alone, if it does."""


class Poster(Protocol):
    """Sends."""

    async def post(self, user: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a body; it takes at most `ANSWER_SECONDS`, and raises nothing.

        Args:
            user: Whose webhook it is.
            url: One that `pipe.events.webhooks.targets.check_url` has let through.
            headers: All that are not HTTP's own.
            body: What to send.
        """

    async def close(self) -> None:
        """Close all connections."""


def content_type(body: bytes) -> str:
    """Guess what a body is: receivers of JSON insist on hearing so."""
    if (body[:1], body[-1:]) in {(b"{", b"}"), (b"[", b"]")}:
        return "application/json"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain; charset=utf-8"
