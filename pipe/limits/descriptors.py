"""How many connections the operating system lets this process have open."""

from __future__ import annotations

import contextlib
import resource

RESERVED = 64
"""Descriptors kept for everything that is no client: database, key files, log, scrapes of the
metrics, the event loop.  When clients have all others, new ones are refused at the door, which is
cheaper and tells more than an accept that fails."""

ENOUGH = 1 << 20
"""Where the system allows any number, so many are asked for: Linux's own default maximum."""


def most_connections() -> int:
    """Raise the limit as far as this process may, and say how many connections fit in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if soft == resource.RLIM_INFINITY else soft
    return max(most - RESERVED, most // 2)
