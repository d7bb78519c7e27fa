"""The package as it is shipped: a wheel that needs nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.processes import Process
from tests.e2e.server import ROOT

if TYPE_CHECKING:
    from .log_server import LogServer

pytestmark = pytest.mark.slow


def test_wheel_works_alone(tmp_path: Path, log_server: LogServer) -> None:
    """It installs into an empty environment without an index, and its command sends lines.

    Building it fetches hatchling.
    """
    uv = str(Path(sys.executable).with_name("uv"))
    build = [uv, "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ROOT / "client")]
    subprocess.run(build, check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"pipe_log/py.typed", "pipe_log/__main__.py"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)

    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-index", "--python", str(python)]
    subprocess.run([*install, str(wheel)], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(tmp_path / "venv/bin/pipe-log"), log_server.url, "--service", "web"]
    program = Process(command, stdin=b"hello\n", environment=environment)

    assert program.wait() == 0, program
    assert log_server.lines[0]["msg"] == "hello"
