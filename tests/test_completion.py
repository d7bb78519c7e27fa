"""Completion in shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipe.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
eval "$(pipe completion bash)"
for line in "$@"; do
    read -ra COMP_WORDS <<<"$line"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _pipe_completion pipe
    echo "${COMPREPLY[@]}"
done
"""
"""Asks bash's function as bash does for the last word of each line."""


def test_bash(tmp_path: Path) -> None:
    """Commands, options of settings and words that a setting takes are completed."""
    program = tmp_path / "pipe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipe "$@"\n')
    program.chmod(0o755)
    lines = ["pipe serv", "pipe user a", "pipe serve --web-tls", "pipe serve --signup o"]
    lines += ["pipe su", "pipe sub --on", "pipe pub build --reco"]
    result = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", *lines],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "serve",
        "add admin",
        "--web-tls-cert --web-tls-key",
        "open",
        "sub",
        "--on-slow",
        "--reconnect",
    ]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is for another shell asks in its way, and that shell reads it where there is one."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_PIPE_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
