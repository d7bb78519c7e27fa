"""What docs/reliability.md says holds a promise is there, and what docs/threats.md names too."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parent
DOCUMENT: Final = TESTS.parent / "docs" / "reliability.md"
THREATS: Final = TESTS.parent / "docs" / "threats.md"


def promises(heading: str = "Promises") -> dict[str, list[str]]:
    """What holds each promise: names of files, of tests, or both as ``file: test``."""
    table = DOCUMENT.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return {row[0].strip(): re.findall(r"`([^`]+)`", row[-1]) for row in rows[2:]}


@functools.cache
def names_of(path: Path) -> set[str]:
    """The functions of a file of tests."""
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


FAULTS: Final = "When a part of the service fails"


def test_there_are_faults() -> None:
    """Their table is read."""
    assert len(promises(FAULTS)) > 15


ROWS: Final = promises() | promises(FAULTS)


@pytest.mark.parametrize("promise", ROWS)
def test_promises_are_held(promise: str) -> None:
    """Each promise, and each fault, names a test at least, and all that it names exist."""
    everywhere = set().union(*(names_of(path) for path in TESTS.rglob("test_*.py")))
    holders = ROWS[promise]
    assert holders
    for holder in holders:
        file, _, test = holder.rpartition(": ") if ": " in holder else (holder, "", "")
        if file.endswith(".py"):
            path = TESTS / file
            assert path.is_file(), holder
            assert not test or test in names_of(path), holder
        else:
            assert holder in everywhere, holder


def threats() -> dict[str, list[str]]:
    """What wards each threat off: names of tests as ``file::test``."""
    lines = [line for line in THREATS.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: re.findall(r"`([^`]+)`", row[-1]) for row in rows if row[0] != "threat"}


def test_there_are_threats() -> None:
    """The table is read."""
    assert len(threats()) > 70


@pytest.mark.parametrize("threat", threats())
def test_threats_are_warded_off(threat: str) -> None:
    """Each threat names a test at least, and all that it names exist."""
    holders = threats()[threat]
    assert holders
    for holder in holders:
        file, _, test = holder.partition("::")
        assert test in names_of(TESTS / file), holder
