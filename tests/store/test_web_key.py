"""The server's own key, in a file."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from pipe.errors import StartError
from pipe.store.web_key import load_web_key

if TYPE_CHECKING:
    from pathlib import Path


def test_made_once_for_the_server_alone(tmp_path: Path) -> None:
    """The first start makes it, later ones find it, and nobody else may read it."""
    path = tmp_path / "web_key"
    key = load_web_key(path)
    assert load_web_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_servers_that_start_together_have_the_same(tmp_path: Path) -> None:
    """Several that make it at the same moment all go on with one of theirs."""
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(load_web_key(tmp_path / "web_key")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


@pytest.mark.parametrize("content", [b"", b"x" * 31])
def test_damaged(tmp_path: Path, content: bytes) -> None:
    """One that was cut is not used, and what to do is said."""
    path = tmp_path / "web_key"
    path.write_bytes(content)
    with pytest.raises(StartError, match="is damaged; restore it"):
        load_web_key(path)


def test_unreadable(tmp_path: Path) -> None:
    """One that cannot be read stops the start."""
    with pytest.raises(StartError, match="cannot use the key"):
        load_web_key(tmp_path / "none" / "web_key")
