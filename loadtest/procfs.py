"""What the kernel says about processes: CPU time, resident memory, children, listening ports.

CPU time is user plus system time.  ``/proc/PID/stat`` has it in ticks of 10 ms, for children that
have been waited for as well; ``schedstat`` has the same time for each living thread in nanoseconds.
The finer one is used where it is there, which is what lets a short run mean something.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_NANOSECONDS_PER_SECOND = 1e9
_TCP_LISTEN = "0A"

# Positions in /proc/PID/stat after the command's closing parenthesis (proc(5) counts from 1, and
# from the process id): utime is field 14, stime 15, cutime 16, cstime 17.
_UTIME, _STIME, _CUTIME, _CSTIME = 11, 12, 13, 14


def tree_cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process, of all it has waited for, and of its living descendants.

    A descendant that ends moves its time into its parent's, so the sum never falls, and the
    difference of two readings holds the processes that came and went in between as well.
    """
    return _cpu_seconds(pid) + sum(tree_cpu_seconds(child) for child in children(pid))


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process, without that of its living children."""
    return _cpu_seconds(pid)


def children(pid: int) -> list[int]:
    """Returns the ids of the living children of a process: none once it has gone itself."""
    found: list[int] = []
    for thread in _threads(pid):
        try:
            found.extend(int(word) for word in (thread / "children").read_text().split())
        except OSError:
            continue
    return found


def name(pid: int) -> str:
    """Returns the name of the program that a process runs, or nothing once it has gone."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def words(pid: int) -> list[str]:
    """Returns the command line of a process, or nothing once it has gone."""
    try:
        return (_PROC / str(pid) / "cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of one process, without its children.

    Raises:
        ProcessLookupError: there is no such process.
    """
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def is_listening(port: int) -> bool:
    """Says whether somebody listens on this TCP port over IPv4, without connecting to it."""
    for line in (_PROC / "net" / "tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == _TCP_LISTEN and int(words[1].partition(":")[2], 16) == port:
            return True
    return False


def _cpu_seconds(pid: int) -> float:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    own = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_SECOND
    reaped = (int(fields[_CUTIME]) + int(fields[_CSTIME])) / _TICKS_PER_SECOND
    # The coarse figure is cut off to whole ticks, so it is the larger one only if a thread has
    # ended whose nanoseconds are no longer listed.
    return max(own, _thread_seconds(pid)) + reaped


def _thread_seconds(pid: int) -> float:
    total = 0
    for thread in _threads(pid):
        try:
            total += int((thread / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / _NANOSECONDS_PER_SECOND


def _threads(pid: int) -> list[Path]:
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return []
