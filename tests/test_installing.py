"""What a release brings: the wheel out of the source archive, installed in every way we name.

Each way begins with nothing, and ends with the main job: a server, a reader and a writer.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipe import __version__

from .e2e.clients import HOST, KeyRing, bare_environment, openssh
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

with (ROOT / "pyproject.toml").open("rb") as _file:
    PROJECT = tomllib.load(_file)["project"]

VERSIONS = [
    found[1]
    for classifier in PROJECT["classifiers"]
    if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier))
]
"""Of Python: those that we say it runs on."""


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
    return {name: value for name, value in bare_environment().items() if name != "PYTHONPATH"}


@functools.cache
def interpreter(version: str) -> str:
    """A Python of this version: from ``PIPE_TEST_PYTHONS``, ``PATH``, or what uv has installed.

    A program of the right name may be another one, or only tell how to install it.
    """
    named = os.environ.get("PIPE_TEST_PYTHONS", "").split(os.pathsep)
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    on_path = [shutil.which(f"python{version}", path=folder) for folder in folders]
    uv = [str(BINARIES / "uv"), "python", "find", "--no-python-downloads", "--managed-python"]
    managed = subprocess.run(
        [*uv, version], capture_output=True, text=True, check=False
    ).stdout.strip()
    for candidate in filter(None, [sys.executable, *named, *on_path, managed]):
        ask = [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
        if answer.strip() == version:
            return candidate
    return ""


def locked(
    wheel: Path, folder: Path, python: str = sys.executable
) -> tuple[list[str], dict[str, str]]:
    """Into a virtualenv, with what the lock names: docs/operations.md, "From a wheel"."""
    make = [python, "-m", "venv", "--without-pip", str(folder / "venv")]
    subprocess.run(make, check=True, env=_clean())
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
@pytest.mark.parametrize("way", [by_uvx, by_pipx])
def test_ways(built: dict[str, Path], tmp_path: Path, way: Way) -> None:
    """Each way that we name leads to a server."""
    check_first_stream(*way(built[".whl"], tmp_path), tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_pythons(built: dict[str, Path], tmp_path: Path, version: str) -> None:
    """So does each version of Python that we name, with what is locked."""
    python = interpreter(version)
    if not python:
        pytest.skip(
            f"no Python {version} here: put python{version} on PATH, or where it is into"
            " PIPE_TEST_PYTHONS"
        )
    program, environment = locked(built[".whl"], tmp_path, python)
    inside = str(tmp_path / "venv" / "bin" / "python")
    ask = [inside, "-W", "error", "-c", "import pipe.app, pipe.check"]
    subprocess.run(ask, check=True, cwd=tmp_path, env=environment)
    check_first_stream(program, environment, tmp_path)


def check_first_stream(program: list[str], environment: dict[str, str], folder: Path) -> None:
    """A first user's first stream, from the wheel: by `ssh`, then with the program's own client."""
    environment = {**environment, "HOME": str(folder)}

    def start(*words: str, stdin: bytes | None = None) -> Process:
        return Process([*program, *words], stdin=stdin, environment=environment, directory=folder)

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
        key = KeyRing(folder).openssh("alice")
        reader = Process(openssh(port, key, "alice", "sub greetings"))
        writer = Process(openssh(port, key, "alice", "pub greetings"), stdin=b"hello\n")
        assert writer.wait() == Status.OK, (writer, server)
        assert reader.wait() == Status.OK, (reader, server)
        assert reader.output == "hello\n"

        ours = folder / ".ssh"
        ours.mkdir()
        shutil.copy(key, ours / "id_ed25519")
        show = ["ssh-keygen", "-y", "-f", str(folder / "data" / "host_key")]
        host_key = subprocess.run(show, check=True, capture_output=True, text=True).stdout
        (ours / "known_hosts").write_text(f"[{HOST}]:{port} {host_key}")
        where = ("--server", f"alice@{HOST}:{port}")
        reader = start("sub", "again", *where)
        writer = start("pub", "again", *where, stdin=b"hello again\n")
        assert writer.wait() == Status.OK, (writer, server)
        assert reader.wait() == Status.OK, (reader, server)
        assert reader.output == "hello again\n"
    finally:
        server.send_signal(signal.SIGTERM)  # which uvx hands on to its child
        server.wait()
