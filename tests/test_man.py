"""The manual pages."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipe.cli import main
from pipe.settings import option_name, setting_names

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).resolve().parent.parent / "docs" / "man.py"


@pytest.fixture(scope="module")
def man() -> ModuleType:
    """The script that makes them."""
    specification = importlib.util.spec_from_file_location("man", SCRIPT)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def render(page: str) -> str:
    """What groff makes of a page, as plain text on one line."""
    words = ["groff", "-Tutf8", "-P-c", "-P-b", "-P-u", "-P-o", "-man", "-ww"]
    options = ["-rHY=0", "-rLL=1000n"]
    result = subprocess.run(
        [*words, *options], input=page.encode(), capture_output=True, check=True
    )
    assert result.stderr == b""
    return " ".join(result.stdout.decode().split())


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff")
def test_pages(man: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Groff has no complaint, and every setting and command is there to be read."""
    pages = {name: render(text) for name, text in man.pages().items()}
    assert pages.keys() == {"pipe.1", "pipe-serve.1"}
    assert main(["serve", "--help"]) == 0
    for name in setting_names():
        assert f" {option_name(name)} " in pages["pipe-serve.1"]
    description = "TCP port for SSH; 22 would take root and the machine's own sshd has it."
    assert description in pages["pipe-serve.1"]
    assert description in " ".join(capsys.readouterr().out.split())
    assert "-h, --help" in pages["pipe.1"]
    for command in (
        "pipe serve",
        "pipe check",
        "pipe user add",
        "pipe token rm",
        "--shared",
        "pipe sub",
        "--on-slow",
    ):
        assert command in pages["pipe.1"]


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff")
def test_text_is_not_taken_for_requests(man: ModuleType) -> None:
    """Whatever a description has in it is printed as it is, so that it can be pasted."""
    text = ".so x\n'so y\nback\\slash --option ~/.ssh `a` ^b 'c'"
    assert render(f".TH A 1\n.PP\n{man.plain(text)}\n").count(" ".join(text.split())) == 1


def test_script(man: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes both pages into a folder that need not be there yet."""
    monkeypatch.setattr("sys.argv", ["man.py", str(tmp_path / "build" / "man")])
    man.main()
    assert {path.name for path in (tmp_path / "build" / "man").iterdir()} == set(man.pages())
