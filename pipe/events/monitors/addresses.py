"""Secret addresses: whoever has one sees how somebody's monitors are, without an account.

Each is derived from the server's key and a salt in the database, so that its user can be shown it
again while the database holds nothing that opens it.  Another salt makes other addresses.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import secrets

from pipe.store.monitors import Feeds

_SECRET_BYTES = 17
"""136 bits: 28 characters of an alphabet that is safe to read aloud."""

_SALT_BYTES = 16


class Kind(enum.Enum):
    """What an address shows.  A badge stands in public, so it has a secret of its own."""

    FEED = "feed"
    BADGE = "badge"
    PAGE = "page"


def derive(key: bytes, salt: str, kind: Kind) -> str:
    """Make the secret part of an address."""
    made = hmac.digest(key, f"monitors {kind.value} {salt}".encode(), "sha256")
    return base64.b32encode(made[:_SECRET_BYTES]).decode().rstrip("=").lower()


def digest(secret: str) -> str:
    """What the database knows of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def make_feeds(key: bytes, user: str) -> Feeds:
    """Describe new addresses of a user."""
    salt = secrets.token_hex(_SALT_BYTES)
    feed, badge, page = (digest(derive(key, salt, kind)) for kind in Kind)
    return Feeds(user, salt, feed, badge, page)
