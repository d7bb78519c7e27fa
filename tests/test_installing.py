"""What a release brings: the wheel out of the source archive, installed in every way we name.

Each way begins with nothing, and ends with the main job: a server, a reader and a writer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipe import __version__

from .e2e.clients import KeyRing, openssh
from .e2e.processes import Process
from .e2e.server import Status, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Way: TypeAlias = Callable[[Path, Path], tuple[list[str], dict[str, str]]]

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parent.parent

BINARIES = Path(sys.executable).parent

PATIENT = 300.0
"""Seconds in which something is fetched and started."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `make release` builds, by the ends of names."""
    folder = tmp_path_factory.mktemp("dist")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "requirements"))
        release = __import__("release")
        patch.setattr(release, "DIST", folder)
        return {path.suffix: path for path in release.build(__version__)}


def test_the_source_archive_has_what_it_takes(built: dict[str, Path]) -> None:
    """And nothing that belongs to one checkout; the documentation comes along."""
    assert built.keys() == {".gz", ".whl", ".json"}
    with tarfile.open(built[".gz"]) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    tops = {name.split("/")[0] for name in names}
    assert {"pipe", "web", "README.md", "hatch_build.py"} <= tops
    assert not tops & {".ci", ".venv", "dist", "data"}
    assert "pipe/web/docs/tutorial.html" in names


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def locked(wheel: Path, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Into a virtualenv, with what the lock names: docs/operations.md, "From a wheel"."""
    venv.create(folder / "venv", symlinks=True)
    binaries = folder / "venv" / "bin"
    install: list[str | Path] = [
        BINARIES / "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        binaries / "python",
    ]
    lock = ROOT / "requirements" / "base.lock"
    subprocess.run([*install, "--require-hashes", "-r", lock], check=True, cwd=folder)
    subprocess.run([*install, "--no-deps", wheel], check=True, cwd=folder)
    return [str(binaries / "pipe")], _clean()


def by_uvx(wheel: Path, folder: Path) -> tuple[list[str], dict[str, str]]:
    """``uvx pipe-server``, of this wheel."""
    environment = {**_clean(), "UV_CACHE_DIR": str(folder / "cache")}
    return [str(BINARIES / "uvx"), "--quiet", "--from", str(wheel), "pipe-server"], environment


def by_pipx(wheel: Path, folder: Path) -> tuple[list[str], dict[str, str]]:
    """``pipx install pipe-server``, of this wheel."""
    environment = {
        **_clean(),
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_BIN_DIR": str(folder / "bin"),
        "UV_CACHE_DIR": str(folder / "cache"),
    }
    install: list[str | Path] = [BINARIES / "uvx", "--quiet", "pipx", "install", "--quiet", wheel]
    subprocess.run(install, check=True, cwd=folder, env=environment)
    return [str(folder / "bin" / "pipe")], environment


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", [locked, by_uvx, by_pipx])
def test_it_serves(built: dict[str, Path], tmp_path: Path, way: Way) -> None:
    """A first user's first stream, from the wheel."""
    program, environment = way(built[".whl"], tmp_path)

    def start(*words: str) -> Process:
        return Process([*program, *words], environment=environment, directory=tmp_path)

    version = start("--version")
    assert version.wait(PATIENT) == Status.OK, version
    assert version.output == f"pipe {__version__}\n"
    port = free_port()
    ports = ("--port", str(port), "--web-port", "0", "--metrics-port", "0")
    checked = start("check", *ports)
    assert checked.wait() == Status.OK, checked
    server = start("serve", *ports)
    try:
        server.wait_stderr("Try it from two other terminals")
        options = KeyRing(tmp_path).openssh("alice")
        reader = Process(openssh(port, options, "alice", "sub greetings"))
        writer = Process(openssh(port, options, "alice", "pub greetings"), stdin=b"hello\n")
        assert writer.wait() == Status.OK, (writer, server)
        assert reader.wait() == Status.OK, (reader, server)
        assert reader.output == "hello\n"
    finally:
        server.send_signal(signal.SIGTERM)  # which uvx hands on to its child
        server.wait()
