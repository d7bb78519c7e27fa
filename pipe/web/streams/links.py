"""``/l/SECRET``: one topic in one direction, for whoever has the link and no account.

The address itself is always a page (`pipe.web.pages`): chats fetch what is pasted into them, and
must not use it up.  ``/l/SECRET/raw`` is the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import AccessDenied, Refusal, TokenRefused
from pipe.language.requests import Publish, Subscribe
from pipe.rights.scopes import Scope
from pipe.web.caller import welcome
from pipe.web.parts import PARTS
from pipe.web.statuses import Gone, NotFound, Unauthorized
from pipe.web.streams.options import read_options
from pipe.web.streams.publish import check_body, publish_as
from pipe.web.streams.read import EXTRAS, check_reader, read_as

if TYPE_CHECKING:
    from aiohttp import web

    from pipe.store import Token
    from pipe.web.caller import Visitor

FIXED = frozenset({"topic", "public", "p", "access", "a"})
"""What the link says, and its bearer does not."""


async def read(request: web.Request) -> web.StreamResponse:
    """``GET /l/SECRET/raw``: read the topic."""
    check_reader(request)
    topic = await _topic_for(request, writes=False)
    wanted, extras = read_options(_without_fixed(request), Subscribe, topic, EXTRAS)
    return await read_as(request, await _admit(request), wanted, extras)


async def publish(request: web.Request) -> web.StreamResponse:
    """``PUT`` or ``POST /l/SECRET/raw``: write to the topic."""
    check_body(request)
    topic = await _topic_for(request, writes=True)
    wanted, _ = read_options(_without_fixed(request), Publish, topic)
    return await publish_as(request, await _admit(request), wanted)


def topic_of(token: Token) -> tuple[str, bool]:
    """The topic that a link is for, and whether it is to write."""
    scope = token.scope or Scope()  # a link has one
    return (scope.writes or scope.reads).shown[0], bool(scope.writes)


async def _topic_for(request: web.Request, *, writes: bool) -> str:
    topic, may_write = topic_of(await _look(request))
    if may_write is not writes:
        verb = "write" if may_write else "read"
        raise AccessDenied(f"access denied: this link is to {verb} {topic}")
    return topic


def _without_fixed(request: web.Request) -> web.Request:
    """Refuse what the bearer of a link has no say in.

    Raises:
        AccessDenied: it is asked for.
    """
    for name in FIXED & request.query.keys():
        raise AccessDenied(f"access denied: a link leaves no choice of {name}")
    return request


async def _look(request: web.Request) -> Token:
    """Find a link, without using it.

    Raises:
        NotFound: there is none.
        Gone: it is over or used up.
    """
    parts = request.app[PARTS]
    try:
        return await parts.authenticator.look_at_link(request.match_info["secret"])
    except TokenRefused as error:
        raise _refused(error) from error


async def _admit(request: web.Request) -> Visitor:
    parts, secret = request.app[PARTS], request.match_info["secret"]
    try:
        return await welcome(
            request, lambda address: parts.authenticator.admit_link(secret, address)
        )
    except Unauthorized as error:
        if isinstance(error.__cause__, TokenRefused):
            raise _refused(error.__cause__) from error
        raise


def _refused(error: TokenRefused) -> NotFound | Gone:
    if error.reason is Refusal.UNKNOWN:
        return NotFound(error.message)
    return Gone(error.message)
