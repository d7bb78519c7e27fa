"""What the README says about other files is what these say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text()
DOCUMENTS: Final = (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))

HOSTED_TO_RELAY: Final = {"1 → 1": 7.7 / 7.4, "1 → 8": 9.5 / 17.3}
"""CPU time of pico.sh's server as a part of the plain relay's, both measured on one machine."""


def cells(line: str) -> list[str]:
    """The cells of a row of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def row(text: str, title: str) -> list[str]:
    """The first row whose first cell matches the regular expression `title`, without that cell."""
    for line in text.splitlines():
        if line.startswith("|") and re.match(title, cells(line)[0]):
            return cells(line)[1:]
    raise AssertionError(f"no row {title}")


def measured(title: str) -> list[str]:
    """Medians from docs/performance.md: ours on its fast lane, without it, relay, sshd."""
    figures = row((ROOT / "docs" / "performance.md").read_text(), title)
    return [re.sub(r" \(.*", "", figure) for figure in figures]


@pytest.mark.parametrize(
    ("readers", "title"),
    [("1 → 1", r"1 ?→ ?1, stock.*CPU"), ("1 → 8", r"1 ?→ ?8.*CPU")],
)
def test_cpu_is_as_measured(readers: str, title: str) -> None:
    """The README has the figures of docs/performance.md, and those that follow from them."""
    ours, _, relay, sshd, *_ = measured(title)
    quoted = row(README, f"server's CPU for 1 GiB, {readers}")

    assert quoted[0] == f"{ours} s"
    assert quoted[1] == f"about {HOSTED_TO_RELAY[readers] * float(relay):.1f} s ²"
    assert quoted[2] == (f"{sshd} s ¹" if sshd else "")
    assert re.search(rf"\b{re.escape(relay)} s\s+for\s+{readers}", README)


def test_other_figures_are_as_measured() -> None:
    """So have its memory, its sshd with all that this starts, and the same with one cipher."""
    ours, _, _, sshd, *_ = measured("1 → 1, aes128-gcm, CPU")
    assert f"with AES-GCM it takes {sshd} s, and ours {ours} s." in " ".join(README.split())
    sshd_and_all = measured(r"(the same|1 ?→ ?1, stock.*), with sshd's shells and cats")[3]

    assert f"¹ With its shells and `cat`s, {sshd_and_all} s." in README
    memory = float(measured("memory of an idle subscriber")[0])
    assert row(README, "memory of a waiting reader")[0] == f"{memory:.0f} KiB"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every link to a file of the project names one that is there, and a heading that it has."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text()):
        name, _, heading = target.partition("#")
        path = document.parent / name if name else document
        assert path.is_file(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, target
