"""The plain frozen values that the store takes and returns."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipe.rights.scopes import Scope


@dataclass(frozen=True, slots=True)
class User:
    """A registered name."""

    name: str
    admin: bool
    """May address every topic."""
    created: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A public key that is not stored yet; `pipe.store.keys` makes them."""

    fingerprint: str
    """``SHA256:`` and base64 without padding, as ``ssh-keygen -l`` prints it."""
    key_type: str
    """The algorithm's name in the protocol, such as ``ssh-ed25519``."""
    public: str
    """One line of an authorized_keys file without the comment: ``ssh-ed25519 AAAA…``."""
    comment: str = ""
    """As its owner wrote it: escape it before printing."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key that logs a user in.  The first four fields of `NewKey` mean the same here."""

    user: str
    fingerprint: str
    key_type: str
    public: str
    comment: str
    created: float
    """When it was added: seconds since 1970, UTC."""
    last_used: float | None
    """When it last logged in; None if it never has."""
    proved: bool = True
    """Whether it is known to be the user's; if not, the first user to log in with it gets it."""


def is_last(key: Key, keys: Iterable[Key]) -> bool:
    """Return whether its user might have no key left to log in with, without this one of ``keys``.

    If one of them is known to be the user's, keys that were only named do not count.
    """
    others = [other for other in keys if other.fingerprint != key.fingerprint]
    return not any(other.proved for other in others) if key.proved else not others


@dataclass(frozen=True, slots=True)
class Login:
    """What the store knows about a registered user who wants to log in."""

    user: User
    key: Key | None
    """The key that was shown, if it is one of the user's."""


class TokenKind(enum.Enum):
    """What a token is for, and how it is shown to a server."""

    API = "api"
    """For a program, which shows the token."""
    SESSION = "session"
    """For a browser, which shows a cookie."""
    CODE = "code"
    """A code to exchange for a session, once."""
    LINK = "link"
    """For one topic and everyone who has the link."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be made; all times are seconds since 1970, UTC."""

    id: str
    secret: str
    """The SHA-256 of the secret that its bearer shows, in hexadecimal."""
    user: str
    kind: TokenKind
    name: str
    """As its user wrote it: escape it before printing."""
    scope: Scope | None
    """What it reaches; None for everything that its user does."""
    admin: bool
    """Whether an admin gave it an admin's rights."""
    made_by: str
    """The fingerprint of the key that its maker logged in with."""
    backing: str
    """What stands behind that key, as in `pipe.rights.callers.Caller`."""
    created: float
    until: float
    session_until: float | None = None
    """For a code: the end of the session that it is exchanged for."""
    uses_left: int | None = None
    """None for any number."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was made.  The fields of `NewToken` mean the same here."""

    id: str
    user: str
    kind: TokenKind
    name: str
    scope: Scope | None
    admin: bool
    """Whether it has an admin's rights: its user must still be one."""
    made_by: str
    backing: str
    created: float
    until: float
    session_until: float | None
    uses_left: int | None
    used: float | None
    """When it was last used, to the minute; None if it never was."""
    used_from: str
    """The address that it was used from then."""
