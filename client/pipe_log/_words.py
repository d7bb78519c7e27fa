"""What is said to people: on stderr, a line at a time."""

from __future__ import annotations

import contextlib
import sys

REASON_LIMIT = 200
"""Characters of what somebody else said."""


def say(text: str) -> None:
    """Say something on stderr, if there is one and somebody reads it."""
    with contextlib.suppress(Exception):
        sys.stderr.write(f"pipe_log: {text}\n")
        sys.stderr.flush()


def printable(text: str) -> str:
    """What another machine said, as far as it can be shown."""
    return "".join(c if c.isprintable() else "?" for c in text[:REASON_LIMIT])
