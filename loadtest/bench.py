"""``python -m loadtest.bench``: runs the cases over all systems in turn and prints the table.

Exits with 0, or with 1 if a run failed or lost bytes.  A missed goal is printed, not an error.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from loadtest.cases import CASES, FULL, QUICK, Case, Plan
from loadtest.report import Row, as_data, as_markdown, as_text, machine
from loadtest.scale import SCALE
from loadtest.servers import SYSTEMS, System
from loadtest.workspace import MIB, BenchError, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS = {"": MIB, "K": 1 << 10, "M": MIB, "G": 1 << 30}


_MOST_LOAD = 0.5
_BUSY = "the machine had other work when this began: see its load, and do not quote these figures"
_SCALE = "scale"
_NAMES = [_SCALE, *(case.name for case in (*CASES, *SCALE))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and returns its exit status."""
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else FULL
    plan = dataclasses.replace(plan, runs=options.runs or plan.runs, size=options.size or plan.size)
    cases = _chosen(options.only)
    abilities = {case.ability for case in cases}
    wanted = [
        name
        for name, (_, kind) in SYSTEMS.items()
        if (not options.systems or name in options.systems) and kind.abilities & abilities
    ]
    signal.signal(signal.SIGTERM, _end)
    _allow_open_files()
    started = time.monotonic()
    facts = machine()
    notes = [_BUSY] if float(facts["load"]) > _MOST_LOAD else []
    rows = [Row(case.name, metric) for case in cases for metric in case.metrics]

    room = sum({case.payload(plan) for case in cases})
    with contextlib.ExitStack() as stack:
        space = stack.enter_context(Workspace(room))
        systems = _start(wanted, space, stack, notes)
        for case in cases:
            _run_case(case, plan, systems, [row for row in rows if row.case == case.name], notes)

    _say(f"done in {time.monotonic() - started:.0f} s")
    titles = {name: SYSTEMS[name][0] for name in systems}
    sys.stdout.write(as_text(facts, titles, rows, notes))
    if options.json is not None:
        text = json.dumps(as_data(facts, titles, rows, notes), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n")
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(titles, rows))
    return 1 if any(row.failed for row in rows) else 0


def _chosen(names: Sequence[str] | None) -> list[Case]:
    """Returns the cases that are asked for."""
    if not names:
        return list(CASES)
    some = {case.name for case in SCALE} if _SCALE in names else set()
    return [case for case in (*CASES, *SCALE) if case.name in {*names, *some}]


def _start(
    names: Sequence[str], space: Workspace, stack: contextlib.ExitStack, notes: list[str]
) -> dict[str, System]:
    """Starts the systems; one that cannot start is left out, with a note."""
    systems: dict[str, System] = {}
    for name in names:
        title, make = SYSTEMS[name]
        _say(f"starting {title}")
        try:
            with contextlib.ExitStack() as attempt:
                system = attempt.enter_context(make(space))
                system.log_in_once()
                stack.push(attempt.pop_all())
            systems[name] = system
        except BenchError as error:
            notes.append(f"left out: {title}: {error}")
            _say(notes[-1])
    return systems


def _run_case(
    case: Case, plan: Plan, systems: dict[str, System], rows: Sequence[Row], notes: list[str]
) -> None:
    """Runs one case, the systems taking turns; the first turn of each verifies every byte."""
    able = {name: system for name, system in systems.items() if case.ability in system.abilities}
    for run in range(case.runs(plan)):
        for name, system in able.items():
            if any(name in row.failed for row in rows):
                continue
            try:
                figures = case.run(system, plan, run == 0)
            except BenchError as error:
                notes.append(f"failed: {case.name} on {SYSTEMS[name][0]}: {error}")
                _say(f"{notes[-1]}\nIts log ends with:\n{system.last_words()}")
                for row in rows:
                    row.failed.add(name)
                    row.runs.pop(name, None)
                continue
            for row in rows:
                if row.metric.name in figures:
                    row.runs.setdefault(name, []).append(figures[row.metric.name])
            shown = ", ".join(
                f"{figures[row.metric.name]:.{row.metric.digits}f} {row.metric.unit}"
                for row in rows
                if row.metric.name in figures
            )
            _say(f"{case.name} {run + 1}/{case.runs(plan)} {name}: {shown}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description="Measures the server beside two baselines that it starts itself.",
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: two minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the table of docs/performance.md"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="CASE", choices=[*_NAMES],
        help=f"only these cases: {', '.join(_NAMES)}; {_SCALE} is all that begin so, which are "
        "left out otherwise",
    )  # fmt: skip
    parser.add_argument(
        "--systems", nargs="+", metavar="SYSTEM", choices=list(SYSTEMS),
        help="only these systems: " + ", ".join(SYSTEMS),
    )  # fmt: skip
    parser.add_argument("--runs", type=_positive, metavar="N", help="runs of each case")
    parser.add_argument(
        "--size", type=_size, metavar="MIB",
        help="what 1→1 sends, as 512, 512M or 1G; 1→8 sends half of it, 1→64 an eighth",
    )  # fmt: skip
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _size(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,8})([KMG]?)(?:iB)?", text)
    if match is None:
        raise ValueError(text)
    return int(match[1]) * _UNITS[match[2]]


def _allow_open_files() -> None:
    """Raises the limit that children inherit: a thousand connections need a thousand files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end(_: int, __: object) -> NoReturn:
    raise SystemExit(143)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
