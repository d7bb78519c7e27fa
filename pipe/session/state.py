"""Where a session is in its life."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a session is in its life; see `pipe.session.session`."""

    OPENING = enum.auto()
    ANSWERING = enum.auto()
    FOLLOWING = enum.auto()
    STREAMING = enum.auto()
    DRAINING = enum.auto()
    ENDING = enum.auto()
    CLOSED = enum.auto()
