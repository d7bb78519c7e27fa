"""Signatures as in Standard Webhooks 1.0 (https://www.standardwebhooks.com).

The secret of a webhook is derived from the server's own key and the webhook's ID, so that the
database holds nothing secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with
VERSION = "v1"

_PURPOSE = b"webhook:"
"""Keeps these secrets apart from others that are derived from the same key."""


def derive_secret(key: bytes, webhook: str) -> bytes:
    """The secret of a webhook: 32 bytes."""
    return hmac.digest(key, _PURPOSE + webhook.encode(), hashlib.sha256)


def shown(secret: bytes) -> str:
    """A secret as receivers are given it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signed_headers(secret: bytes, message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove who sends a body, and when.

    Args:
        secret: The webhook's.
        message: The message's ID, the same at each try.
        timestamp: Of this try: seconds since 1970.
        body: What is sent.
    """
    mac = hmac.new(secret, f"{message}.{timestamp}.".encode(), hashlib.sha256)
    mac.update(body)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"{VERSION},{base64.b64encode(mac.digest()).decode()}",
    }
