"""What the store hands out and takes: plain frozen values."""

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
    """A public key that nobody has been given yet; `pipe.store.keys` makes them."""

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
    """Whether it is known to be the user's; if not, it yields to whoever logs in with it."""


def is_last(key: Key, keys: Iterable[Key]) -> bool:
    """Whether its user might have no key any more that logs in, without this one of these keys.

    Where one of them is known to be the user's, those that were only named do not count.
    """
    others = [other for other in keys if other.fingerprint != key.fingerprint]
    return not any(other.proved for other in others) if key.proved else not others


@dataclass(frozen=True, slots=True)
class Login:
    """What the store knows of somebody who wants to log in: a registered user."""

    user: User
    key: Key | None
    """The key that was shown, where it is one of the user's."""


class TokenKind(enum.Enum):
    """What a token is for, and how it is shown to a server."""

    API = "api"
    """A program's: it shows the token."""
    SESSION = "session"
    """A browser's: it shows a cookie."""
    CODE = "code"
    """A code that is exchanged for a session, once."""
    LINK = "link"
    """A topic's, for whoever has the link."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that is to be made; all times are seconds since 1970, UTC."""

    id: str
    secret: str
    """The SHA-256 of what its bearer shows, in hexadecimal."""
    user: str
    kind: TokenKind
    name: str
    """As its user wrote it: escape it before printing."""
    scope: Scope | None
    """How far it reaches; None: as far as its user."""
    admin: bool
    """Whether an admin said that it may do what an admin may."""
    made_by: str
    """The fingerprint of the key that its maker logged in with."""
    backing: str
    """What stands behind that key, as `pipe.rights.access.Caller` has it."""
    created: float
    until: float
    session_until: float | None = None
    """Of a code: the end of the session that it is exchanged for."""
    uses_left: int | None = None
    """None: any number."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was made.  The fields of `NewToken` mean the same here."""

    id: str
    user: str
    kind: TokenKind
    name: str
    scope: Scope | None
    admin: bool
    """Whether it may do what an admin may: its user is one still."""
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
