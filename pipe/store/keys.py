"""Which public keys may log in, and how one is read from text.

`check_key_type` also checks the keys of SSH logins: asyncssh's ``signature_algs`` restricts what a
server signs with, but accepts keys of any kind and length.
"""

from __future__ import annotations

import asyncssh
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from pipe.errors import UsageError
from pipe.language.names import quoted
from pipe.store.records import NewKey

MAX_TEXT = 16 * 1024
"""Characters of a key file: ten times the line of an RSA key of 8192 bits."""

MAX_COMMENT = 256
"""Characters of a comment that are kept: it is a label, not a place to store data."""

MIN_RSA_BITS = 2048
"""NIST SP 800-131A disallows shorter moduli since 2014."""

MAX_RSA_BITS = 8192
"""Verifying costs the square of the length, and the client chooses it."""

MAX_RSA_EXPONENT_BITS = 32
"""Verifying costs its length too.  All tools use 65537."""

_RSA = "ssh-rsa"

ALLOWED_TYPES = frozenset(
    {
        "ssh-ed25519",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        _RSA,
    }
)

UNREADABLE = (ValueError, OverflowError, UnsupportedAlgorithm)
"""What asyncssh and cryptography raise for invalid keys; a negative number overflows."""

_MEND = "make a new key with: ssh-keygen -t ed25519"
_PUBLIC_FILE = "give the file that ends in .pub"


def check_key_type(key: asyncssh.SSHKey) -> None:
    """Check that a key is of a kind that may log in.

    Allowed are Ed25519, ECDSA on the NIST curves, both also on a security key, and RSA of
    `MIN_RSA_BITS` to `MAX_RSA_BITS`.

    Raises:
        UsageError: It is not; the message says why and what to do.
    """
    key_type = key.get_algorithm()
    if key_type not in ALLOWED_TYPES:
        raise UsageError(f"keys of type {quoted(key_type)} are not accepted: {_MEND}")
    if key_type == _RSA:
        _check_rsa(key)


def read_public_key(text: str) -> NewKey:
    """Read a public key in OpenSSH's format, as in ``.pub`` files.

    Empty lines and those that start with ``#`` are skipped.  A comment is cut at `MAX_COMMENT`.

    Raises:
        UsageError: The text is not one public key that may log in; the message says what to do.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(f"this is too long for a public key: {_PUBLIC_FILE}")
    if "PRIVATE KEY" in text or text.startswith("PuTTY-User-Key-File"):
        raise UsageError(f"this is a private key, keep it secret: {_PUBLIC_FILE}")
    stripped = (line.strip() for line in text.splitlines())
    lines = [line for line in stripped if line and not line.startswith("#")]
    if not lines:
        raise UsageError(f"there is no public key: {_PUBLIC_FILE}")
    if "BEGIN" in lines[0]:
        raise UsageError(
            "this key is not in OpenSSH's format: convert it with ssh-keygen -i, "
            "'man ssh-keygen' has the formats"
        )
    if len(lines) > 1:
        raise UsageError("there is more than one line: add one public key at a time")
    return _read_line(lines[0])


def describe_key(key: asyncssh.SSHKey, comment: str = "") -> NewKey:
    """Turn a key that was read, or that a client logged in with, into the store's form.

    Raises:
        UsageError: As from `check_key_type`.
    """
    check_key_type(key)
    algorithm, blob = key.export_public_key().decode("ascii", "replace").split()[:2]
    return NewKey(
        fingerprint=key.get_fingerprint(),
        key_type=key.get_algorithm(),
        public=f"{algorithm} {blob}",
        comment=comment.strip()[:MAX_COMMENT],
    )


def _read_line(line: str) -> NewKey:
    """Read ``type base64 comment``; the comment may be any text, and never reaches asyncssh."""
    key_type, _, rest = line.partition(" ")
    blob, _, comment = rest.strip().partition(" ")
    if "-cert-v01@" in key_type:
        raise UsageError("this is a certificate: give the public key, without -cert in its name")
    try:
        key = asyncssh.import_public_key(f"{key_type} {blob}")
    except UNREADABLE as error:
        raise UsageError(f"{quoted(line)} is not a public key that works here: {_MEND}") from error
    return describe_key(key, comment)


def _check_rsa(key: asyncssh.SSHKey) -> None:
    rsa = key.pyca_key
    if not isinstance(rsa, RSAPublicKey):
        raise UsageError(f"this is a private key, keep it secret: {_PUBLIC_FILE}")
    if not MIN_RSA_BITS <= rsa.key_size <= MAX_RSA_BITS:
        raise UsageError(
            f"RSA keys must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, "
            f"this one has {rsa.key_size}: {_MEND}"
        )
    if rsa.public_numbers().e.bit_length() > MAX_RSA_EXPONENT_BITS:
        raise UsageError(f"this RSA key has an exponent of unusual size: {_MEND}")
