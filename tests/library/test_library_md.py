"""docs/library.md: its programs run as they are, and it names what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipe
from tests.e2e.processes import DEADLINE

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "library.md").read_text()

PROGRAMS = dict(re.findall(r"^### (.*)\n(?:.*\n)*?```python\n((?:.*\n)*?)```$", TEXT, re.MULTILINE))

PRINTED = {
    "A job queue": "2 workers did ['job 0', 'job 1', 'job 2', 'job 3']\n",
    "A camera's frames for many viewers": "whole frames only: True - some were missed: True\n",
    "The tail of a log": "line 98\nline 99\nline 100\n",
    "A bot in a chat": "bot: hello to you, too\n",
    "Deploy when a build is done": "deployed 7 bytes\nnot deployed: status 1\n",
}


def test_each_program_is_tested() -> None:
    """There are five, and each is one of those below."""
    assert PROGRAMS.keys() == PRINTED.keys()


@pytest.mark.parametrize("title", PRINTED)
def test_program(title: str) -> None:
    """It prints what it should, and nothing on stderr."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAMS[title]],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (result.returncode, result.stderr, result.stdout) == (0, "", PRINTED[title])


def test_errors_are_described() -> None:
    """Each exception is in the table of ends, with its status."""
    table = TEXT.split("## Ends")[1].split("## Five")[0]
    for name in pipe.__all__:
        found = getattr(pipe, name)
        if isinstance(found, type) and issubclass(found, pipe.PipeError):
            assert f"`{name}`" in table or f"pipe.{name}" in table


def test_options_are_described() -> None:
    """Each option of a verb is named."""
    for verb in (pipe.Broker.publish, pipe.Broker.subscribe, pipe.Broker.pipe):
        for name in verb.__annotations__.keys() - {"return"}:
            assert f"`{name}`" in TEXT or f"{name}," in TEXT, name
