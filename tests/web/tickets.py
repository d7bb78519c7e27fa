"""Codes and links as a store would know them."""

from __future__ import annotations

import time

from pipe.rights.scopes import Reach, Scope
from pipe.store import Token, TokenKind
from tests.sessions import fingerprint

DAY = 86400.0


def code(user: str) -> Token:
    """A code of a user's, for a login of half a day."""
    return _ticket(user, TokenKind.CODE, 300.0, None, 1)


def link(topic: str, *, writes: bool = False) -> Token:
    """A link to a topic, that works once within a day."""
    user = topic.partition("/")[0]
    reach = Reach.parse([topic], owner=user)
    scope = Scope(writes=reach) if writes else Scope(reads=reach)
    return _ticket(user, TokenKind.LINK, DAY, scope, 1)


def _ticket(user: str, kind: TokenKind, seconds: float, scope: Scope | None, uses: int) -> Token:
    now = time.time()
    return Token(
        id="a" * 12,
        user=user,
        kind=kind,
        name="",
        scope=scope,
        admin=False,
        made_by=fingerprint(user),
        backing="",
        created=now,
        until=now + seconds,
        session_until=now + DAY / 2 if kind is TokenKind.CODE else None,
        uses_left=uses,
        used=None,
        used_from="",
    )
