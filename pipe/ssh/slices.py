"""How much of its input a connection may handle at once, within `pipe.limits.turns`.

If the turn's budget is used up, a connection only sips: it reads a little, enough for a typed
message, and queues if there is more.

asyncssh's parser handles all its input before it returns, so it gets one slice at a time.
"""

from __future__ import annotations

SHARE_SECONDS = 0.0005
"""How long a full read takes on the lane: 256 KiB from one connection to another."""

TURN_SECONDS = 0.004
"""How long one connection may spend on packets for asyncssh, whose cost varies more."""

SIP_BYTES = 4096
"""How much a connection may read when the turn's budget is used up."""

SIP_SLICE_BYTES = 128
"""How much of a sip asyncssh may handle: a message of a hundred bytes, or one request, which may
take as long as a thousand bytes of a stream."""

SLICE_BYTES = 8192
"""The largest slice for asyncssh, which copies its whole buffer for each packet."""

FIRST_SLICE_BYTES = 1024
MIN_SLICE_BYTES = 256
"""The smallest slice.  Slices grow while they are quick, and shrink when their content takes long,
such as small packets that go to a hundred readers."""


def next_slice(size: int, took: float) -> int:
    """The size of the next slice for asyncssh, if one of ``size`` bytes took ``took`` seconds."""
    if took > TURN_SECONDS / 2:
        return max(size // 2, MIN_SLICE_BYTES)
    return min(size * 2, SLICE_BYTES)
