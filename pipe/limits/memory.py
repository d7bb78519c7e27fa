"""How much memory there is, how much this process uses, and when that is too much.

The alarm works like RabbitMQ's: above a share of the memory all publishers are paused and readers
go on, so that buffers can drain.  The figures come from the kernel: /proc/self/statm (proc(5)) and
the control group's limit (cgroups(7)), if it is lower than the machine's memory.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

ALARM_SHARE = 0.6
"""The default threshold as a share of the memory: RabbitMQ's ``vm_memory_high_watermark``.  The
rest is for the kernel's socket buffers, and for data on its way when the alarm begins."""

RECOVERY_SHARE = 0.9
"""The alarm ends below this share of its threshold, so that it does not flicker."""

NO_LIMIT_BYTES = 1 << 60
"""Version 1 of control groups writes a huge number for "no limit"."""

_V1_FILE = "memory.limit_in_bytes"
_V2_FILE = "memory.max"


class MemoryAlarm:
    """Whether there is an alarm, with a lower threshold for its end.

    Args:
        threshold: bytes of resident memory at which it begins; with 0 it never does.
    """

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self.recovery = int(threshold * RECOVERY_SHARE)
        self.active = False

    def update(self, resident: int) -> bool:
        """Take a measurement, and return whether the alarm has begun or ended."""
        if not self.threshold:
            return False
        active = resident > (self.recovery if self.active else self.threshold)
        changed, self.active = active != self.active, active
        return changed


def default_threshold() -> int:
    """`ALARM_SHARE` of the memory that this process may use; 0 if the system does not tell."""
    return int(available_bytes() * ALARM_SHARE)


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """This process's resident memory in bytes; 0 if the system does not tell."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def available_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory that this process may use: its control group's limit, or the machine's memory.

    Args:
        proc: where proc(5) is mounted.
        groups: where control groups are mounted.

    Returns:
        Bytes; 0 if the system does not tell.
    """
    limits = [_machine_bytes(proc), *_group_limits(proc, groups)]
    return min((limit for limit in limits if 0 < limit < NO_LIMIT_BYTES), default=0)


def _machine_bytes(proc: Path) -> int:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemTotal":
                return int(value.removesuffix("kB")) * 1024
    except (OSError, ValueError):
        pass
    return 0


def _group_limits(proc: Path, groups: Path) -> list[int]:
    """The limits of this process's group and of all groups above it."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = groups, _V2_FILE
        elif "memory" in controllers.split(","):
            root, name = groups / "memory", _V1_FILE
        else:
            continue
        # In a container the path may be the host's, of which only the root is visible here.
        group = Path(path.lstrip("/"))
        limits += [_read_limit(root / part / name) for part in (group, *group.parents)]
    return limits


def _read_limit(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0  # no such group here, or "max"


def give_back_memory() -> None:
    """Ask the C library to return freed memory to the system; only glibc does.

    Otherwise the memory of many small chunks would stay with the process, and an alarm would never
    end.  This takes milliseconds, and may be called from a thread.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
