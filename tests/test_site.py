"""The documentation's site."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "docs" / "site.py"


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """The script that builds it."""
    specification = importlib.util.spec_from_file_location("site_builder", SCRIPT)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_it_builds_and_no_link_is_lost(tmp_path: Path) -> None:
    """The build fails at a link or an anchor that leads nowhere; nothing comes from elsewhere."""
    result = subprocess.run(
        [sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    page = (tmp_path / "index.html").read_text()
    fetched = re.findall(r'(?:src|rel="stylesheet" href|rel="icon" href)="([^"]+)"', page)
    assert fetched
    assert not [address for address in fetched if "//" in address]


def test_a_lost_anchor_fails_the_build(tmp_path: Path) -> None:
    """The check of links can fail."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "docs", copy / "docs")
    for path in ROOT.iterdir():
        if path.name not in {"docs", "build"}:
            (copy / path.name).symlink_to(path)
    (copy / "docs" / "tutorial.md").write_text("[gone](using.md#no-such-heading)\n")
    result = subprocess.run(
        [sys.executable, copy / "docs" / "site.py"], capture_output=True, text=True, check=False
    )

    assert result.returncode
    assert "no-such-heading" in result.stdout + result.stderr


def test_the_recipes_are_those_that_the_tests_run(site: ModuleType) -> None:
    """The page of recipes has the README's blocks, word for word."""
    readme = (ROOT / "README.md").read_text()
    recipes = site.section(readme, "Recipes")
    blocks = re.findall(r"```.*?```", recipes, re.DOTALL)

    assert blocks
    assert re.findall(r"```.*?```", site.pages()["how-to/recipes.md"], re.DOTALL) == blocks


def test_a_file_without_a_place_is_told(site: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new page of docs/ cannot be forgotten."""
    monkeypatch.delitem(site.PAGES, "docs/using.md")

    with pytest.raises(site.LostPageError, match=re.escape("docs/using.md has no place")):
        site.pages()
