"""What the store hands out and takes: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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
