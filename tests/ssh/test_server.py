"""The host key: made once, whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING, NoReturn

import pytest

from pipe.errors import StartError
from pipe.ssh.server import load_host_key

if TYPE_CHECKING:
    from pathlib import Path


class FullDisk(io.RawIOBase):
    """A file that takes nothing."""

    def write(self, _: object) -> NoReturn:
        """Fail."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_host_key_is_made_once(tmp_path: Path) -> None:
    """The second start has the same key, and nobody else can read it."""
    path = tmp_path / "host_key"
    first, second = load_host_key(path), load_host_key(path)
    assert first.public_data == second.public_data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_half_host_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full no part of a key stays, so that the next start can make a whole one."""
    path = tmp_path / "host_key"

    def open_on_full_disk(descriptor: int, _mode: str) -> FullDisk:
        os.close(descriptor)
        return FullDisk()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", open_on_full_disk)
        with pytest.raises(StartError, match="No space left on device"):
            load_host_key(path)
    assert not path.exists()
    assert load_host_key(path)
