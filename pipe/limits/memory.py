"""How much memory there is, how much this process has, and when that is too much.

The alarm is RabbitMQ's: above a share of the memory all publishers are paused and readers go on, so
that what is buffered can leave.  Its figures come from the kernel: /proc/self/statm (proc(5)) and
the control group's own limit (cgroups(7)), where there is one that is lower than the machine's.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

ALARM_SHARE = 0.6
"""Of the memory, where the operator says nothing: RabbitMQ's ``vm_memory_high_watermark``.  The
rest is for the kernel's socket buffers, and for what is on its way when the alarm begins."""

RECOVERY_SHARE = 0.9
"""Of the alarm's threshold: below it the alarm ends, so that it does not come and go."""

NO_LIMIT_BYTES = 1 << 60
"""Version 1 of control groups writes a huge number for "no limit"."""

_V1_FILE = "memory.limit_in_bytes"
_V2_FILE = "memory.max"


class MemoryAlarm:
    """Whether there is an alarm, with a lower threshold for its end.

    Args:
        threshold: bytes of resident memory at which it begins; 0: it never does.
    """

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self.recovery = int(threshold * RECOVERY_SHARE)
        self.active = False

    def update(self, resident: int) -> bool:
        """Take a measurement; whether the alarm has begun or ended by it."""
        if not self.threshold:
            return False
        active = resident > (self.recovery if self.active else self.threshold)
        changed, self.active = active != self.active, active
        return changed


def default_threshold() -> int:
    """`ALARM_SHARE` of the memory that this process may use; 0 where the system does not tell."""
    return int(available_bytes() * ALARM_SHARE)


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """This process' resident memory; 0 where the system does not tell."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def available_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory that this process may use: its control group's limit, or the machine's memory.

    Args:
        proc: where proc(5) is mounted.
        groups: where control groups are.

    Returns:
        Bytes; 0 where the system does not tell.
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
    """The limits of this process' group and of all groups above it."""
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
        # In a container the path may be the host's, of which only the root is to be seen here.
        group = Path(path.lstrip("/"))
        limits += [_read_limit(root / part / name) for part in (group, *group.parents)]
    return limits


def _read_limit(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0  # no such group here, or "max"


def give_back_memory() -> None:
    """Ask the C library to return to the system what has been freed; does nothing but in glibc.

    Memory that many small chunks have left would otherwise stay with the process, and an alarm
    would never end.  It takes milliseconds, and may be called from a thread.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
