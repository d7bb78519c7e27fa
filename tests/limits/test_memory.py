"""Memory: what the kernel's files say, and when there is an alarm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipe.limits.memory import (
    NO_LIMIT_BYTES,
    MemoryAlarm,
    available_bytes,
    give_back_memory,
    resident_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


def files(root: Path, **texts: str) -> tuple[Path, Path]:
    """A /proc and a /sys/fs/cgroup; in the names of files ``__`` stands for a slash."""
    for name, text in texts.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "groups"


MACHINE = "MemFree: 17 kB\nMemTotal:        8388608 kB\n"


def test_alarm_has_two_thresholds() -> None:
    """It begins above the one and ends below the lower one."""
    alarm = MemoryAlarm(1000)
    changes = [alarm.update(resident) for resident in (999, 1000, 1001, 2000, 950, 901, 900, 950)]
    assert changes == [False, False, True, False, False, False, True, False]
    assert not alarm.active


def test_machine_without_groups(tmp_path: Path) -> None:
    """Then it is the machine's memory."""
    proc, groups = files(tmp_path, proc__meminfo=MACHINE)
    assert available_bytes(proc, groups) == 8 * GIB


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"a__b": "1073741824\n"}, GIB),
        ({"a__b": "max\n", "a": f"{2 * GIB}"}, 2 * GIB),
        ({"a__b": f"{3 * GIB}", "a": f"{2 * GIB}"}, 2 * GIB),
        ({"a__b": f"{64 * GIB}"}, 8 * GIB),
        ({"a__b": "nonsense"}, 8 * GIB),
    ],
)
def test_version_2(tmp_path: Path, limits: dict[str, str], expected: int) -> None:
    """The lowest limit of the group and those above it counts, if it is below the machine's."""
    texts = {f"groups__{path}__memory.max": text for path, text in limits.items()}
    proc, groups = files(tmp_path, proc__meminfo=MACHINE, proc__self__cgroup="0::/a/b\n", **texts)
    assert available_bytes(proc, groups) == expected


def test_container(tmp_path: Path) -> None:
    """The path of the group is the host's, and the container's own group is the root."""
    proc, groups = files(
        tmp_path,
        proc__meminfo=MACHINE,
        proc__self__cgroup="0::/system.slice/docker-1234.scope\n",
        **{"groups__memory.max": f"{GIB}"},
    )
    assert available_bytes(proc, groups) == GIB


@pytest.mark.parametrize(("limit", "expected"), [(GIB, GIB), (NO_LIMIT_BYTES * 4, 8 * GIB)])
def test_version_1(tmp_path: Path, limit: int, expected: int) -> None:
    """Its controllers have trees of their own, and a number that means none."""
    proc, groups = files(
        tmp_path,
        proc__meminfo=MACHINE,
        proc__self__cgroup="9:cpu:/x\n4:memory,pids:/pipe\n0::/\n",
        **{"groups__memory__pipe__memory.limit_in_bytes": f"{limit}\n"},
    )
    assert available_bytes(proc, groups) == expected


def test_system_that_tells_nothing(tmp_path: Path) -> None:
    """0, which is no threshold."""
    assert available_bytes(tmp_path, tmp_path) == 0
    assert resident_bytes(tmp_path / "statm") == 0


def test_this_process() -> None:
    """It has some memory, less than there is, and what is freed can be given back."""
    if not os.path.exists("/proc/self/statm"):  # noqa: PTH110
        pytest.skip("no /proc")
    assert 1 << 20 < resident_bytes() < available_bytes()
    give_back_memory()
