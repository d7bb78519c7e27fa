"""The key that secrets are derived from which a user may ask for again: ``web_key``.

It lies beside the host key, not in the database, so that nothing in there opens anything.  Servers
that share a database share the file.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from pipe.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32


def make_web_key() -> bytes:
    """Make a new key."""
    return secrets.token_bytes(KEY_BYTES)


def load_web_key(path: Path) -> bytes:
    """Read the key, or make it on the first start.

    Raises:
        StartError: the file cannot be read or written, or is damaged.
    """
    try:
        if not path.exists():
            _write_secret(path, make_web_key())
        key = path.read_bytes()
    except OSError as error:
        raise StartError(f"cannot use the web key {path}: {error.strerror or error}") from error
    if len(key) != KEY_BYTES:
        raise StartError(
            f"the web key {path} is damaged: restore it from a backup, or remove it, and the"
            " addresses that were made with it end"
        )
    return key


def _write_secret(path: Path, secret: bytes) -> None:
    """Write all of a file or nothing: half a key would prevent the next start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
    except OSError:
        path.unlink()
        raise
