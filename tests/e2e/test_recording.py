"""The session in the README's picture is one that still happens."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import pytest

from .clients import bare_environment
from .processes import Process
from .server import ROOT, Status, free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

SVG: Final = "{http://www.w3.org/2000/svg}"
MAX_BYTES: Final = 100_000
"""What a README's picture may weigh."""

RECORDER: Final = ROOT / "docs" / "recording.py"


def texts(picture: Path) -> list[str]:
    """The lines of the picture, the port in them replaced by 0."""
    found = ["".join(text.itertext()) for text in ElementTree.parse(picture).iter(f"{SVG}text")]  # noqa: S314
    return [re.sub(r"-p \d+ ", "-p 0 ", text) for text in found]


def test_picture_shows_what_happens(tmp_path: Path) -> None:
    """A new recording has the very lines of the picture that is there; both readers have it all."""
    picture = tmp_path / "session.svg"
    words = [sys.executable, str(RECORDER), "--port", str(free_port()), "--output", str(picture)]
    recorder = Process(words, environment=bare_environment())

    assert recorder.wait() == Status.OK, recorder.text
    assert picture.stat().st_size < MAX_BYTES
    lines = texts(picture)
    sums = [line for line in lines if re.fullmatch(r"[0-9a-f]{40}  film\.mkv", line)]
    assert len(sums) == 3
    assert len(set(sums)) == 1
    assert "pipe: sent 33554432 bytes to 2 subscribers" in lines
    assert lines == texts(ROOT / "docs" / "session.svg"), "run: make recording"


def test_answers_that_come_with_the_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a terminal may have said all before anybody reads the first of it."""
    monkeypatch.syspath_prepend(str(RECORDER.parent))
    recording = importlib.import_module("recording")
    ours, its = os.pipe()
    try:
        pane = recording.Pane("one", 80, 24, 0, 0, terminal=ours)
        os.write(its, b"$ cat x\r\ncosts 5$ each\r\n$ ")
        assert pane.read_until("$ ") == ["$ "]
        assert pane.read_until("cat x\r\n") == ["cat x", ""]
        assert pane.read_until("$ ") == ["costs 5$ each", "$ "]
    finally:
        os.close(ours)
        os.close(its)


def test_server_that_does_not_start(tmp_path: Path) -> None:
    """A server that cannot start is told in one line, and no picture is written."""
    picture = tmp_path / "session.svg"
    words = [sys.executable, str(RECORDER), "--port", "70000", "--output", str(picture)]
    recorder = Process(words, environment=bare_environment())

    assert recorder.wait() == 1
    assert len(recorder.lines) == 1
    assert "port" in recorder.lines[0]
    assert not picture.exists()
