"""Figures into medians, ratios and verdicts; a table for people and JSON for machines."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OURS: Final = "fast"
BASELINES: Final = ("relay", "sshd")

_CAUTION: Final = (
    "A slow or noisy machine changes the absolute figures, not the ratios: systems take turns.",
    "CPU is user+sys of the server alone (of sshd with all its processes, without the shells and",
    "cats), counted from the moment at which all clients have logged in. Message times hold the",
    "clients' own cost (OpenSSH's and this driver's), the same for every system. A login is a key",
    "exchange and a signature, without a session; one client process makes them, four at a time.",
    "The first run of a transfer hashes what arrives, beside the server, and so is slower.",
    "With small files (--quick) what a session costs once weighs more, with sshd above all.",
)


@dataclass(frozen=True)
class Goal:
    """What a figure must not exceed: a value, and parts of the baselines' values."""

    at_most: float | None = None
    of_relay: float | None = None
    of_sshd: float | None = None


@dataclass(frozen=True)
class Metric:
    """One figure that a case yields."""

    name: str
    title: str
    unit: str
    goal: Goal = Goal()
    digits: int = 2


@dataclass
class Row:
    """A metric and what each system reached, one value for each run."""

    case: str
    metric: Metric
    runs: dict[str, list[float]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def median(self, system: str) -> float | None:
        """Returns the system's median, or None if it has no figure."""
        values = self.runs.get(system)
        return statistics.median(values) if values else None

    def ratio(self, baseline: str) -> float | None:
        """Returns our median as a part of a baseline's, or None if one of them is missing."""
        ours, theirs = self.median(OURS), self.median(baseline)
        return ours / theirs if ours is not None and theirs else None

    def verdicts(self) -> Iterator[tuple[str, bool | None]]:
        """Yields each part of the goal and whether it is met: None if that cannot be said."""
        goal = self.metric.goal
        if goal.at_most is not None:
            ours = self.median(OURS)
            yield f"≤ {goal.at_most:g}", None if ours is None else ours <= goal.at_most
        for part, baseline in zip((goal.of_relay, goal.of_sshd), BASELINES, strict=True):
            if part is not None:
                ratio = self.ratio(baseline)
                yield f"≤ {part:g} of {baseline}", None if ratio is None else ratio <= part


def machine() -> dict[str, str]:
    """Returns what the figures depend on, apart from the code."""
    command = ["ssh", "-V"]
    openssh = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "asyncssh": metadata.version("asyncssh"),
        "uvloop": metadata.version("uvloop"),
        "cryptography": metadata.version("cryptography"),
        "openssh": openssh.stderr.split(",")[0].strip(),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def as_text(
    facts: Mapping[str, str], titles: Mapping[str, str], rows: Sequence[Row], notes: Sequence[str]
) -> str:
    """Returns the table, with its header above and the notes below."""
    head = ["", *titles.values(), *(f"fast/{name}" for name in BASELINES), "goals"]
    table = [head, *(_cells(row, titles) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    lines = [
        ", ".join(f"{name} {value}" for name, value in facts.items()),
        *_CAUTION,
        "Medians, with the smallest and the largest run in brackets.",
        "",
    ]
    for number, cells in enumerate(table):
        lines.append("  ".join(map(str.ljust, cells, widths)).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    if notes:
        lines += ["", *notes]
    return "\n".join(lines) + "\n"


def as_markdown(titles: Mapping[str, str], rows: Sequence[Row]) -> str:
    """Returns the table as docs/performance.md has it, without the goals."""
    head = ["case", *titles.values(), *(f"fast / {name}" for name in BASELINES)]
    table = [head, ["---"] * len(head), *(_cells(row, titles)[:-1] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def as_data(
    facts: Mapping[str, str], titles: Mapping[str, str], rows: Sequence[Row], notes: Sequence[str]
) -> dict[str, object]:
    """Returns the same as `as_text`, ready for `json.dump`."""
    return {
        "machine": dict(facts),
        "systems": dict(titles),
        "notes": list(notes),
        "results": [
            {
                "case": row.case,
                "metric": row.metric.name,
                "title": row.metric.title,
                "unit": row.metric.unit,
                "goal": asdict(row.metric.goal),
                "systems": {
                    name: {
                        "median": row.median(name),
                        "min": min(values),
                        "max": max(values),
                        "runs": values,
                    }
                    for name, values in row.runs.items()
                },
                "failed": sorted(row.failed),
                "ratios": {name: row.ratio(name) for name in BASELINES},
                "verdicts": dict(row.verdicts()),
            }
            for row in rows
        ],
    }


def _cells(row: Row, titles: Mapping[str, str]) -> list[str]:
    cells = [f"{row.metric.title}, {row.metric.unit}"]
    cells += [_figure(row, system) for system in titles]
    for baseline in BASELINES:
        ratio = row.ratio(baseline)
        cells.append("" if ratio is None else f"{ratio:.2f}")
    words = {True: "ok", False: "MISS", None: "?"}
    cells.append("; ".join(f"{text} {words[met]}" for text, met in row.verdicts()))
    return cells


def _figure(row: Row, system: str) -> str:
    median = row.median(system)
    if median is None:
        return "failed" if system in row.failed else ""
    values, digits = row.runs[system], row.metric.digits
    text = f"{median:.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
