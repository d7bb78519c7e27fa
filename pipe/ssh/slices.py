"""How much of its input a connection may handle at once, within `pipe.limits.turns`.

A connection that finds the turn's budget used up only sips: it reads a little, enough for a message
that somebody has typed, and where there is more it queues.

asyncssh's parser handles all that it is given before it returns, so it is given a slice at a time.
"""

from __future__ import annotations

SHARE_SECONDS = 0.0005
"""What a full read takes on the lane: 256 KiB from one connection to another."""

TURN_SECONDS = 0.004
"""What one connection may take for packets that go to asyncssh, whose cost varies more."""

SIP_BYTES = 4096
"""What a connection may read where the turn's budget is used up."""

SIP_SLICE_BYTES = 128
"""What of a sip asyncssh may handle: a message of a hundred bytes, or one request, of which each
may take as long as a thousand bytes of a stream."""

SLICE_BYTES = 8192
"""asyncssh copies its whole buffer for each packet, so it gets its input in slices of at most
this size."""

FIRST_SLICE_BYTES = 1024
MIN_SLICE_BYTES = 256
"""The slices grow while they are quick, and shrink where what is in them takes long, such as small
packets that go to a hundred readers."""


def next_slice(size: int, took: float) -> int:
    """The size of the next slice for asyncssh, where one of ``size`` bytes took so many seconds."""
    if took > TURN_SECONDS / 2:
        return max(size // 2, MIN_SLICE_BYTES)
    return min(size * 2, SLICE_BYTES)
