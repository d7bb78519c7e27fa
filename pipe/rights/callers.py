"""Callers: users who have logged in, with a key or with a token."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from pipe.rights.scopes import Scope

FILED = "file"
"""The backing of a key in one of the operator's files; no fingerprint looks like this."""

NO_BACKING = "none"
"""The backing of a login that may not make tokens."""

next_login = itertools.count(1).__next__
"""Numbers logins, and removals of accounts and keys, in the order they happen."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Caller:
    """A user who has logged in: the user's name, and the key that proved it.

    ``login`` comes from `next_login`, and tells which logins came before a key's removal.  A login
    still being decided is a caller without a fingerprint, so that removals meanwhile are remembered
    for it.  ``lent`` means that it came in by something temporary (a certificate, an operator's
    file or a token), so it may not add keys to the account.

    ``until`` is when that runs out, in seconds since 1970.  ``backing`` is what stands behind its
    key: empty for a key in the database, `FILED` for one in a file, a CA's fingerprint for a
    certificate, and `NO_BACKING` for a login restricted to an address or command, since a token
    that it made would not be restricted.

    ``token`` is the ID of the token that it came with, ``token_name`` the user's name for it, and
    ``scope`` what it reaches; without a scope the caller may do all that its user may.  The key of
    such a caller is the one that made the token.
    """

    user: str
    fingerprint: str
    admin: bool = False
    login: int = field(default_factory=next_login, compare=False)
    lent: bool = field(default=False, compare=False)
    scope: Scope | None = None
    until: float | None = field(default=None, compare=False)
    backing: str = field(default="", compare=False)
    token: str = ""
    token_name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _alive[id(self)] = self


_alive: WeakValueDictionary[int, Caller] = WeakValueDictionary()


def callers_alive() -> list[Caller]:
    """All callers that are still referenced: nothing else can hold an older login."""
    return list(_alive.values())
