"""The server's own key, from which the secrets of webhooks are derived."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from pipe.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32


def load_key(path: Path) -> bytes:
    """Read the key, or make it on the first start; only the server's user may read it.

    Raises:
        StartError: the file cannot be read or written, or is damaged.
    """
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise StartError(f"cannot use the key {path}: {error.strerror or error}") from error
    if len(key) != KEY_BYTES:
        raise StartError(
            f"the key {path} is damaged; restore it from a backup, or remove it and all webhooks "
            "will have other secrets"
        )
    return key


def _make(path: Path) -> None:
    """Write all of the file or nothing, also if another server does the same now."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
