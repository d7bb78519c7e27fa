"""What `make release` refuses and writes, and that the wheel out of the source archive works."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipe import __version__

from .e2e.clients import KeyRing, openssh
from .e2e.processes import Process
from .e2e.server import Status, free_port

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script; its neighbours are found beside it, as when it is started."""
    monkeypatch.syspath_prepend(str(ROOT / "requirements"))
    return importlib.import_module("release")


@pytest.fixture
def sbom(release: ModuleType) -> dict[str, Any]:
    """The list of parts of this checkout."""
    document: dict[str, Any] = json.loads(release.sbom_text())
    return document


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("## [Unreleased]\n\n## [1.2.0] - 2030-01-31\n\n- Wings.\n", []),
        ("## [1.2.0] - 2030-01-31\n\n- Wings.\n\n## [1.1.0] - 2029-01-31\n\n- Feet.\n", []),
        ("## [Unreleased]\n\n- Wings.\n", ["under Unreleased", "nothing is told of 1.2.0"]),
        ("## [1.2.0] - 2030-01-31\n\n## [1.1.0] - 2029-01-31\n\n- Feet.\n", ["nothing is told"]),
        ("## [1.2.0] - soon\n\n- Wings.\n", ["has no date"]),
        ("", ["nothing is told of 1.2.0"]),
    ],
)
def test_changelog(release: ModuleType, text: str, complaints: list[str]) -> None:
    """The version needs a part with a date and words, and nothing may be left above it."""
    found = release.check_changelog(text, "1.2.0")
    assert len(found) == len(complaints), found
    assert all(words in line for words, line in zip(complaints, found, strict=True))


def test_tree(release: ModuleType, tmp_path: Path) -> None:
    """What is not committed is named, and a version is released once."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").touch()
    assert release.check_tree(tmp_path, "1.2.0") == ["the tree is not clean: commit or remove file"]
    git("add", "file")
    git("commit", "-m", "Begin")
    assert release.check_tree(tmp_path, "1.2.0") == []
    git("tag", "v1.2.0")
    assert "is tagged already" in release.check_tree(tmp_path, "1.2.0")[0]


def test_sbom_has_all_parts(sbom: dict[str, Any]) -> None:
    """Each pin of base.lock and of web/package-lock.json is a component with a name of its own."""
    lock = (ROOT / "requirements" / "base.lock").read_text(encoding="utf-8")
    names = re.findall(r"^([a-z0-9-]+)(?:\[.*])?==", lock, re.MULTILINE)
    components = [component["name"] for component in sbom["components"]]
    assert components == [*names, "@xterm/addon-fit", "@xterm/xterm"]
    references = [component["bom-ref"] for component in sbom["components"]]
    assert len(set(references)) == len(references)
    assert "pkg:npm/%40xterm/xterm@" in "".join(references)


def test_sbom_tells_who_needs_what(sbom: dict[str, Any]) -> None:
    """Everything is needed by something, and in the end by pipe."""
    needs = {entry["ref"]: entry["dependsOn"] for entry in sbom["dependencies"]}
    reached, todo = set(), [sbom["metadata"]["component"]["bom-ref"]]
    while todo:
        reference = todo.pop()
        if reference not in reached:
            reached.add(reference)
            todo += needs[reference]
    assert reached == needs.keys()


def test_sbom_is_the_same_each_time(release: ModuleType) -> None:
    """No date and no random number is in it."""
    assert release.sbom_text() == release.sbom_text()


@pytest.mark.slow
@pytest.mark.e2e
def test_wheel_from_the_source_archive(
    release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel is built out of the source archive, and serves from a virtualenv of its own."""
    monkeypatch.setattr(release, "DIST", tmp_path / "dist")
    archive, wheel = (
        next(path for path in release.build(__version__) if path.name.endswith(end))
        for end in (".tar.gz", ".whl")
    )
    with tarfile.open(archive) as content:
        tops = {name.split("/")[1] for name in content.getnames() if "/" in name}
    assert {"pipe", "web", "README.md", "hatch_build.py"} <= tops
    assert not tops & {".ci", ".venv", "dist", "data"}
    venv.create(tmp_path / "venv", symlinks=True)
    binaries = tmp_path / "venv" / "bin"
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet"]
    uv += ["--python", str(binaries / "python")]
    lock = ROOT / "requirements" / "base.lock"
    subprocess.run([*uv, "--require-hashes", "-r", lock], check=True, cwd=tmp_path)
    subprocess.run([*uv, "--no-deps", wheel], check=True, cwd=tmp_path)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = str(binaries / "pipe")

    def start(*words: str) -> Process:
        return Process([program, *words], environment=clean, directory=tmp_path)

    version = start("--version")
    assert version.wait() == Status.OK, version
    assert version.output == f"pipe {__version__}\n"
    port = free_port()
    ports = ("--port", str(port), "--web-port", "0", "--metrics-port", "0")
    checked = start("check", *ports)
    assert checked.wait() == Status.OK, checked
    server = start("serve", *ports)
    try:
        server.wait_stderr("Try it from two other terminals")
        keys = KeyRing(tmp_path)
        options = keys.openssh("alice")
        reader = Process(openssh(port, options, "alice", "sub", "greetings"))
        writer = Process(openssh(port, options, "alice", "pub", "greetings"), stdin=b"hello\n")
        assert writer.wait() == Status.OK, (writer, server)
        assert reader.wait() == Status.OK, (reader, server)
        assert reader.output == "hello\n"
    finally:
        server.kill()
