"""How many connections the operating system lets this process hold open."""

from __future__ import annotations

import contextlib
import resource

RESERVED = 64
"""Descriptors kept for everything but clients: database, key files, log, metrics scrapes, the event
loop.  When clients use all others, the gate refuses new ones, which is cheaper and more telling
than an accept that fails."""

ENOUGH = 1 << 20
"""How many to ask for where the system allows any number: Linux's own default maximum."""


def most_connections() -> int:
    """Raise the limit as far as this process may, and return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if soft == resource.RLIM_INFINITY else soft
    return max(most - RESERVED, most // 2)
