"""What the machine gives: descriptors, processors, and the right time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipe.check.findings import Finding, ok, warning
from pipe.limits.descriptors import most_connections
from pipe.settings import DATABASE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.settings import Settings

_SLACK_SECONDS = 60.0
"""Files may be this much younger than now: they come from other machines, too."""


def check_system(settings: Settings) -> Iterator[Finding]:
    """Look at descriptors, processors and clock."""
    yield _check_descriptors(settings)
    if settings.workers > 1:
        yield _check_workers(settings.workers)
    yield _check_clock(settings)


def _check_descriptors(settings: Settings) -> Finding:
    most = most_connections()
    limits = {
        "max-connections-per-user": settings.max_connections_per_user,
        "max-connections-per-address": settings.max_connections_per_address,
        "max-unauthenticated": settings.max_unauthenticated,
    }
    beyond = [f"--{name} {count}" for name, count in limits.items() if count >= most]
    if beyond:
        return warning(
            "descriptors",
            f"they are enough for {most} connections, and {beyond[0]} lets one user or address take"
            " all: raise ulimit -n (LimitNOFILE of a unit, nofile of a container), or lower that",
        )
    return ok("descriptors", f"they are enough for {most} connections, in a shell like this one")


def _check_workers(workers: int) -> Finding:
    processors = len(os.sched_getaffinity(0))
    if workers > processors:
        return warning(
            "workers",
            f"they are {workers}, and there are {processors} processors: more than one for each"
            " takes memory and gains nothing; --workers auto is as many",
        )
    return ok("workers", f"they are {workers}, and there are {processors} processors")


def _check_clock(settings: Settings) -> Finding:
    now = time.time()
    files = [
        Path(__file__),
        settings.host_key_path,
        settings.web_key_path,
        settings.data_dir / DATABASE_NAME,
    ]
    for path in files:
        try:
            changed = path.stat().st_mtime
        except OSError:
            continue
        if changed > now + _SLACK_SECONDS:
            return warning(
                "clock",
                f"it is behind: {path.name} is of {_show(changed)}, and now is {_show(now)}; set it"
                " with NTP, or tokens and certificates end at the wrong time",
            )
    return ok("clock", f"it is {_show(now)}")


def _show(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
