"""The data folder, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from pipe.data_dir import files_of, make_data_dir
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
