"""Who asks: somebody who has logged in, or came with a token."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from pipe.rights.scopes import Scope

FILED = "file"
"""The backing of a key in a file of the operator's; no fingerprint looks so."""

NO_BACKING = "none"
"""The backing of a login that may make no token."""

next_login = itertools.count(1).__next__
"""Numbers logins, and removals of accounts and keys, in their order."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Caller:
    """Somebody who has logged in: the user's name, and the key that proved it.

    ``login`` is its `next_login`, so that one can tell which logins came before the removal of a
    key.  A login that is still being judged is a caller without a fingerprint, so that removals
    meanwhile are remembered for it.  ``lent``: something that ends let it in, a certificate, a file
    of the operator's or a token, so that it may give the account no keys.

    ``until`` is when what let it in runs out, in seconds since 1970, and ``backing`` what stands
    behind its key: empty for a key of the database's, `FILED` for one in a file, a CA's fingerprint
    for a certificate, `NO_BACKING` for what is held to an address or command that nothing made by
    it would be held to.

    ``token`` is the ID of the token that let it in, ``token_name`` its user's name for that, and
    ``scope`` how far that reaches; without one it may do all that its user may.  The key of such a
    caller is the one that made the token.
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
    """All callers that something still refers to: nobody else can come with an older login."""
    return list(_alive.values())
