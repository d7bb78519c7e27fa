"""Where a session is in its life.

OPENING ── request ──> ANSWERING   a command that only answers
├─────────────────> FOLLOWING   a command that goes on answering
├─────────────────> RELAYING    it runs in another worker, where its topic is at home
└─────────────────> STREAMING ── end of file of a publisher ──> DRAINING
any of them ── outcome ──> ENDING  (the last bytes are on their way) ──> CLOSED
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """See the module docstring."""

    OPENING = enum.auto()
    ANSWERING = enum.auto()
    FOLLOWING = enum.auto()
    RELAYING = enum.auto()
    STREAMING = enum.auto()
    DRAINING = enum.auto()
    ENDING = enum.auto()
    CLOSED = enum.auto()
