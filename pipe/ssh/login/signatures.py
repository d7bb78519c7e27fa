"""Which keys, certificates and signatures to consider at all, by their names in the protocol.

asyncssh tries every kind that it knows before it asks whether we want it: it verifies a certificate
by an unknown CA, whatever that costs, and an impossible key causes an internal error.  So
`pipe.ssh.login.logins` checks here before asyncssh sees a key.
"""

from __future__ import annotations

import base64
import functools
import hashlib

from asyncssh.public_key import decode_ssh_public_key

from pipe.errors import UsageError
from pipe.language.names import quoted
from pipe.store.keys import ALLOWED_TYPES, UNREADABLE, check_key_type

SIGNATURE_ALGORITHMS = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "webauthn-sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""What users and CAs may sign with.  Not ssh-rsa, which is RSA over SHA-1 (OpenSSH 8.8)."""

RECENT_KEYS = 64
"""Good keys to remember: a client shows the same one twice, to ask and to sign."""

SHORT_KEY_BYTES = 2048
"""Longer ones are not remembered: no key of a user needs more, and anybody may show them."""

_CERTIFICATE = "-cert-v01"

_RSA_NAMES = ("rsa-sha2-256", "rsa-sha2-512")
"""Some programs write the signature's algorithm in place of the key's type."""


def name_of(blob: bytes) -> str:
    """The name that a key, certificate or signature begins with; empty if there is none."""
    length = int.from_bytes(blob[:4])
    if len(blob) < 4 + length:
        return ""
    return blob[4 : 4 + length].decode("ascii", "replace")


def is_certificate(name: str) -> bool:
    """Whether this is the type of a certificate for a key that may log in."""
    return _CERTIFICATE in name and certified_type(name) in ALLOWED_TYPES


def certified_type(name: str) -> str:
    """The type of the key in a certificate of this type."""
    plain = name.replace(f"{_CERTIFICATE}@openssh.com", "@openssh.com" * name.startswith("sk-"))
    return "ssh-rsa" if plain in _RSA_NAMES else plain


def fingerprint_of(blob: bytes) -> str:
    """A public key's fingerprint, as ``ssh-keygen -l`` prints it."""
    return _recent_fingerprint(blob) if len(blob) <= SHORT_KEY_BYTES else _fingerprint(blob)


def _fingerprint(blob: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


_recent_fingerprint = functools.lru_cache(maxsize=RECENT_KEYS)(_fingerprint)


def public_line(blob: bytes) -> str:
    """A public key as a line of text."""
    return f"{name_of(blob)} {base64.b64encode(blob).decode()}"


@functools.lru_cache(maxsize=RECENT_KEYS)
def check_key(blob: bytes) -> None:
    """Check that these bytes are a public key, and one that may log in.

    Raises:
        UsageError: They are not; the message says why.
    """
    name = name_of(blob)
    if name not in ALLOWED_TYPES:
        raise UsageError(
            f"keys of type {quoted(name)} are not accepted: "
            "make a new key with: ssh-keygen -t ed25519"
        )
    try:
        key = decode_ssh_public_key(blob)
    except UNREADABLE as error:
        raise UsageError("the key is damaged") from error
    check_key_type(key)
