"""The key that secrets are derived from which a user may ask for again: ``web_key``.

Those of webhooks and the secret addresses of feeds come from it.  It lies beside the host key, not
in the database, so that nothing in there opens anything.  Servers that share a database share the
file.
"""

from __future__ import annotations

import contextlib
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
    """Read the key, or make it on the first start; only the server's user may read it.

    Raises:
        StartError: the file cannot be read or written, or is damaged.
    """
    try:
        if not path.exists():
            _write(path)
    except OSError as error:
        raise StartError(f"cannot use the key {path}: {error.strerror or error}") from error
    return read_web_key(path)


def read_web_key(path: Path) -> bytes:
    """Read the key.

    Raises:
        StartError: the file cannot be read, or is damaged.
    """
    try:
        key = path.read_bytes()
    except OSError as error:
        raise StartError(f"cannot use the key {path}: {error.strerror or error}") from error
    if len(key) != KEY_BYTES:
        raise StartError(
            f"the key {path} is damaged; restore it from a backup, or remove it: then all webhooks "
            "have other secrets, and the addresses of feeds and status pages end"
        )
    return key


def _write(path: Path) -> None:
    """Write all of the file or nothing, also if another server does the same now."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(make_web_key())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
