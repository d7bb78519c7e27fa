"""What `make release` refuses, and what it writes."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
