"""The check of a mesh's settings and certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.check import Level
from pipe.check.mesh import check_mesh
from pipe.mesh import certificates
from pipe.mesh.certificates import make as make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipe.settings import Settings

    Make = Callable[..., Settings]

DATABASE = "postgresql://somebody@nowhere/pipe"


def found(settings: Settings) -> list[tuple[Level, str]]:
    """What the check says."""
    return [(finding.level, f"{finding.about}: {finding.text}") for finding in check_mesh(settings)]


def with_files(make: Make, folder: Path, **more: object) -> Settings:
    """Settings of a node with good files."""
    files = make_certificate("n1", folder / "mesh").files
    given = {
        "mesh": "0.0.0.0:2223",
        "mesh_ca": files.ca,
        "mesh_cert": files.certificate,
        "mesh_key": files.key,
        "node": "n1",
        "database_url": DATABASE,
    }
    return make(**(given | more))


def test_no_mesh(make: Make) -> None:
    """Without a mesh there is nothing to say."""
    assert found(make()) == []


def test_a_good_one(make: Make, tmp_path: Path) -> None:
    """A certificate that fits is named with its end."""
    ((level, text),) = found(with_files(make, tmp_path))
    assert level is Level.OK
    assert text.startswith("mesh-cert: it is for the node n1, and ends on 20")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"mesh": None}, "need --mesh HOST:PORT"),
        ({"mesh_key": None}, "--mesh needs --mesh-ca, --mesh-cert and --mesh-key"),
        ({"mesh": "a:1,b:2"}, "--mesh is one place"),
        ({"database_url": None}, "needs a PostgreSQL that all nodes share, and not SQLite"),
        ({"node": "n2"}, "it is not for the node n2"),
    ],
)
def test_what_does_not_fit(
    make: Make, tmp_path: Path, more: dict[str, object], problem: str
) -> None:
    """Settings that do not fit together are one error that says what to do."""
    ((level, text),) = found(with_files(make, tmp_path, **more))
    assert level is Level.ERROR
    assert problem in text


def test_another_ca(make: Make, tmp_path: Path) -> None:
    """A certificate that another CA has signed is an error."""
    other = make_certificate("n1", tmp_path / "other").files.ca
    ((level, text),) = found(with_files(make, tmp_path, mesh_ca=other))
    assert (level, "mesh-ca has not signed it" in text) == (Level.ERROR, True)


@pytest.mark.parametrize(("days", "level"), [(0, Level.ERROR), (10, Level.WARNING)])
def test_its_end(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, level: Level
) -> None:
    """A certificate that has ended is an error, one that ends soon a warning."""
    monkeypatch.setattr(certificates, "NODE_DAYS", days)
    ((found_level, text),) = found(with_files(make, tmp_path))
    assert found_level is level
    assert "make a new one with 'pipe mesh certificate n1'" in text


def test_an_open_key(make: Make, tmp_path: Path) -> None:
    """A key that others can read is a warning."""
    settings = with_files(make, tmp_path)
    assert settings.mesh_key
    settings.mesh_key.chmod(0o644)
    assert [level for level, _ in found(settings)] == [Level.OK, Level.WARNING]
