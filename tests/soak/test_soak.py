"""A soak of some seconds, and what the long one is judged by."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from loadtest.soak.watch import Reading, left_behind, slope
from loadtest.workspace import MIB
from tests.e2e.server import ROOT

COMMAND = [sys.executable, "-m", "loadtest.soak", "--seed", "5"]
LEVEL = Reading(0.0, 50 * MIB, 20, 8, 4, 0, 0, 0, 0, 0, 0, Counter({"pipe.Thing": 3}))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_short_soak_is_clean() -> None:
    """Some seconds of it break no promise."""
    command = [*COMMAND, "--minutes", "0.2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "broken promises" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [("--workers", "2"), ("--workers", "1", "--nodes", "2")])
def test_short_soak_with_kills_is_clean(size: tuple[str, ...]) -> None:
    """A round of load on several processes, and what is killed in it, break no promise."""
    command = [*COMMAND, "--minutes", "0.5", *size]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "serves after" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_interrupted_soak_reports_and_leaves_nobody() -> None:
    """Ctrl-C ends its children, and what it found so far is told."""
    soak = subprocess.Popen(
        [*COMMAND, "--minutes", "5"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert soak.stdout
        lines = [soak.stdout.readline() for _ in range(2)]  # the second ends the first round
        assert "scenes" in lines[1]
        [server] = [
            int(word)
            for word in _read(f"/proc/{soak.pid}/task/{soak.pid}/children").split()
            if "loadtest.soak.served" in _read(f"/proc/{word}/cmdline")
        ]
        soak.send_signal(signal.SIGINT)
        report, _ = soak.communicate(timeout=120)
        assert "interrupted" in report
        assert "broken promises" in report
        with pytest.raises(ProcessLookupError):
            os.kill(server, 0)
    finally:
        soak.kill()
        soak.wait()


def _read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123 - of /proc
        return file.read().replace("\0", " ")


def test_leak_is_seen() -> None:
    """A figure or an object above its level is told, one below or as many as allowed is not."""
    assert left_behind(LEVEL, LEVEL, {}) == []
    assert left_behind(LEVEL, replace(LEVEL, tasks=3, descriptors=19), {}) == []
    more = replace(LEVEL, tasks=5, objects=Counter({"pipe.Thing": 4, "pipe.New": 1}))
    told = " ".join(left_behind(LEVEL, more, {}))
    assert "tasks: 4 before, 5 after" in told
    assert "pipe.Thing: 3 before" in told
    assert "pipe.New: 0 before" in told
    assert left_behind(LEVEL, more, {"tasks": 1, "objects": 1}) == []


def test_slope_is_of_the_second_half() -> None:
    """What memory did while the server warmed up does not count; afterwards MiB per hour do."""
    warm = [replace(LEVEL, at=minute * 60.0, memory=minute * MIB) for minute in range(10)]
    flat = [replace(LEVEL, at=(10 + minute) * 60.0) for minute in range(10)]
    rise = [
        replace(reading, memory=reading.memory + place * MIB) for place, reading in enumerate(flat)
    ]
    assert slope(warm + flat) == pytest.approx(0.0)
    assert slope(warm + rise) == pytest.approx(60.0)
    assert slope(flat[:2]) == 0.0
