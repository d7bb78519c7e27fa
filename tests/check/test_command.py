"""The command ``pipe check``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipe.cli import main
from tests.e2e.server import free_port

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints a line for each finding; an error makes the status 69, a bad setting 64."""
    for name in [name for name in os.environ if name.upper().startswith("PIPE_")]:
        monkeypatch.delenv(name)
    config = folder / "pipe.toml"
    config.write_text(
        f'port = 0\nweb-port = 0\nmetrics-port = {free_port()}\ndata-dir = "{folder}"'
    )
    words = ["check", "--config", str(config)]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert f"ok       data-dir: {folder} is there, and only its owner can write to it" in lines
    (folder / "host_key").touch(mode=0o600)
    assert main(words) == 69
    assert "\nerror    host key: " in capsys.readouterr().out
    assert main([*words, "--port", "x"]) == 64
    assert capsys.readouterr().out == ""
    assert {path.name for path in folder.iterdir()} == {"pipe.toml", "host_key"}
