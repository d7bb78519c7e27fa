"""The data folder, and what is told of it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from pipe.data_dir import files_of, locked, make_data_dir
from pipe.errors import StartError
from pipe.greeting import greet
from pipe.settings import load

if TYPE_CHECKING:
    from pathlib import Path


def test_first_start_tells_what_it_made(tmp_path: Path) -> None:
    """The folder and its new files are named once; a later start has nothing to tell."""
    settings = load({"data_dir": str(tmp_path / "data"), "log_format": "json"})
    before = make_data_dir(settings)
    for path in (settings.host_key_path, settings.web_key_path):
        path.touch()
    with capture_logs() as lines:
        greet(settings, 2222, "", 0, before)
        greet(settings, 2222, "", 0, make_data_dir(settings))

    assert [line["event"] for line in lines] == ["made", "serving", "serving"]
    assert lines[0]["folder"] == str(tmp_path / "data")
    assert lines[0]["files"] == "host_key, web_key"
    assert files_of(settings) == {"host_key", "web_key"}


def test_one_server_for_one_file(tmp_path: Path) -> None:
    """A second one is refused with what to do, until the first is gone; other folders are free."""
    settings = load({"data_dir": str(tmp_path)})
    same = load({"data_dir": str(tmp_path / "x"), "database_url": f"sqlite:///{tmp_path}/pipe.db"})
    other = load({"data_dir": str(tmp_path / "x")})
    with locked(settings):
        for second in (settings, same):
            with pytest.raises(StartError, match=r"another server has it \(process \d+\)"):
                locked(second).__enter__()
        with locked(other):
            pass
    with locked(same), pytest.raises(StartError, match="choose another --data-dir"):
        locked(settings).__enter__()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://x@y/z"])
def test_what_needs_no_lock(tmp_path: Path, url: str) -> None:
    """A database in memory is its server's own, and PostgreSQL is there to be shared."""
    settings = load({"data_dir": str(tmp_path), "database_url": url})
    with locked(settings), locked(settings):
        assert not list(tmp_path.iterdir())


def test_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is locked although its lock cannot say by whom; the database tells what is wrong."""

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    settings = load({"data_dir": str(tmp_path)})
    monkeypatch.setattr("pipe.data_dir.os.write", fail)
    with (
        locked(settings),
        pytest.raises(StartError, match="another server has it"),
        locked(settings),
    ):
        pass
