"""Whether a delivery comes from whom its hook was given to.

The proof is over the body as it came, is checked before anything in it is read, and takes the same
time whatever is wrong: also where there is no such hook.  The body is taken in pieces, as it comes,
so that a long one holds nobody up.

    distribution, generic   Authorization: Bearer SECRET
    harbor                  Authorization: SECRET, with or without Bearer
    gitlab                  X-Gitlab-Token: SECRET
    dockerhub, quay         /hook/ID/SECRET, and nothing else; generic may do so too
    github                  X-Hub-Signature-256: sha256=HMAC of the body
    forgejo                 X-Forgejo-Signature or X-Gitea-Signature: HMAC of the body
    standard                webhook-signature: v1,HMAC of webhook-id.webhook-timestamp.body
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from pipe.language.hook_requests import HookKind

if TYPE_CHECKING:
    from collections.abc import Mapping

STANDARD_PREFIX = "whsec_"
"""How secrets of Standard Webhooks begin; the rest is the key in base64."""

TOLERANCE_SECONDS = 300.0
"""How old or new the time may be that a Standard Webhook has signed, as its libraries have it."""

MAX_SIGNATURES = 16
"""Signatures of one delivery that are looked at: there are several while a secret is renewed."""

_TIMESTAMP = re.compile("[0-9]{1,12}")


class Proof:
    """Checks one delivery; `update` gets its body.

    Args:
        kind: what the hook takes; None if there is no such hook, and so no proof.
        secret: as the store has it.
        headers: of the request, by their names in whatever case.
        shown: the secret in the path, if there is one there.
        now: seconds since 1970.
    """

    def __init__(
        self, kind: HookKind | None, secret: str, headers: Mapping[str, str], shown: str, now: float
    ) -> None:
        self._kind = kind
        self._secret = secret
        self._headers = headers
        self._shown = shown
        key, begin = b"", b""
        self._in_time = True
        if kind is HookKind.STANDARD:
            key = _standard_key(secret)
            begin, self._in_time = _standard_begin(headers, now)
        elif kind and kind.is_signed:
            key = secret.encode()
        self._mac = hmac.new(key, begin, "sha256")

    def update(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        self._mac.update(piece)

    @property
    def fingerprint(self) -> str:
        """Tells this body from others that came to the same hook."""
        return self._mac.hexdigest()

    def holds(self) -> bool:
        """Whether the body, now whole, comes from whom the hook was given to."""
        get = self._headers.get
        match self._kind:
            case HookKind.GITHUB:
                return _same(f"sha256={self.fingerprint}", get("X-Hub-Signature-256", ""))
            case HookKind.FORGEJO:
                shown = get("X-Forgejo-Signature") or get("X-Gitea-Signature", "")
                return _same(self.fingerprint, shown)
            case HookKind.STANDARD:
                return self._holds_as_standard(get("webhook-signature", ""))
            case HookKind.GITLAB:
                return self._is_secret(get("X-Gitlab-Token", ""))
            case HookKind.HARBOR:
                shown = get("Authorization", "")
                return self._is_secret(_bearer(shown) or shown)
            case HookKind.DOCKERHUB | HookKind.QUAY:
                return self._is_secret(self._shown)
            case HookKind.GENERIC:
                return self._is_secret(_bearer(get("Authorization", "")) or self._shown)
            case HookKind.DISTRIBUTION:
                return self._is_secret(_bearer(get("Authorization", "")))
            case None:
                self._is_secret(self._shown)
                return False

    def _holds_as_standard(self, shown: str) -> bool:
        expected = base64.b64encode(self._mac.digest()).decode()
        fits = [
            _same(expected, signature)
            for version, _, signature in (
                word.partition(",") for word in shown.split()[:MAX_SIGNATURES]
            )
            if version == "v1"
        ]
        return any(fits) and self._in_time

    def _is_secret(self, shown: str) -> bool:
        return _same(self._secret, digest(shown))


def digest(secret: str) -> str:
    """What is stored of a secret that is shown as it is."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _same(expected: str, shown: str) -> bool:
    return hmac.compare_digest(expected.encode(), shown.encode("utf-8", "surrogateescape"))


def _bearer(header: str) -> str:
    scheme, _, rest = header.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


def _standard_key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except binascii.Error:  # it was not made here
        return secret.encode()


def _standard_begin(headers: Mapping[str, str], now: float) -> tuple[bytes, bool]:
    """What is signed before the body, and whether it was signed just now."""
    number, time = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    # With a dot in the ID, one signature would be good for several IDs, times and bodies.
    valid = bool(number) and "." not in number and _TIMESTAMP.fullmatch(time) is not None
    in_time = valid and abs(now - int(time)) <= TOLERANCE_SECONDS
    return f"{number}.{time}.".encode("utf-8", "surrogateescape"), in_time
