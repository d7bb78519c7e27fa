"""The snippets of the client's README, taken from the file itself."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.processes import Process
from tests.e2e.server import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import StartPython
    from .log_server import LogServer

README: Final = (ROOT / "client/README.md").read_text()
SNIPPETS: Final = dict(re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", README, re.DOTALL))


def snippet(name: str, server: LogServer) -> str:
    """One of them, with this server in place of the example."""
    return str(SNIPPETS[name]).replace("https://pipe.example.org", server.url)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logging", {"msg": "disk is 93 % full", "user": "alice", "service": "web"}),
        ("context", {"msg": "payment refused", "user": "alice", "service": "web"}),
        ("structlog", {"msg": "payment refused", "user": "alice", "order": 7}),
    ],
)
def test_snippets_of_python(
    python: StartPython, log_server: LogServer, name: str, expected: dict[str, object]
) -> None:
    """Each runs as it stands, and its line arrives."""
    program = python("-c", snippet(name, log_server))

    assert program.wait() == 0, program
    [line] = log_server.lines
    assert line.items() >= {**expected, "level": "WARN"}.items()
    assert log_server.requests[0].headers["Authorization"] == "Bearer TOKEN"


def test_snippet_of_the_shell(tmp_path: Path, log_server: LogServer) -> None:
    """The command sends what a service prints."""
    (tmp_path / "service").write_text("#!/bin/sh\necho hello\necho oh >&2\n")
    (tmp_path / "service").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "client")}
    program = Process(
        ["bash", "-c", snippet("stdin", log_server)], environment=environment, directory=tmp_path
    )

    assert program.wait() == 0, program
    assert [(line["msg"], line["user"]) for line in log_server.lines] == [
        ("hello", "alice"),
        ("oh", "alice"),
    ]
