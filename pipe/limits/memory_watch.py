"""Looks after the process's memory.

It pauses all publishers while there is too little, and gives back what a crowd has left behind.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import structlog

from pipe.language.quantities import MIB
from pipe.limits.memory import give_back_memory, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.limits.memory import MemoryAlarm
    from pipe.stream.router import Router

log = structlog.get_logger()

LOOK_SECONDS = 0.25
"""How often the memory is looked at.  The kernel tells nobody when it grows; a look costs 20 us,
and what all buffers can grow by in this time is far less than the share left above the alarm."""

WORTH_SHARE = 0.05
"""Of the threshold: publishers are paused only while readers have this much to take.  With less,
a pause would free nothing: the memory has gone elsewhere, and one reader that stands still must
not hold up everybody."""

TIDY_LOOKS = 20
"""Every so many looks, 5 s, freed memory is given back.  Chunks are smaller than what the C library
maps by itself, so a crowd of readers that has left would otherwise be counted for ever."""

TIDY_BYTES = 16 * MIB
"""Over the memory at the start: with less there is little to give back.  A useless try costs some
0.05 ms, or 6 ms in a heap of 450 MiB full of holes; giving back 500 MiB takes a thread 40 ms."""


async def watch_memory(
    router: Router,
    alarm: MemoryAlarm,
    buffer: int,
    measure: Callable[[], int] = resident_bytes,
) -> None:
    """Hold the router while memory is short, until cancelled.

    Args:
        router: whose publishers are paused.
        alarm: says when memory is short.
        buffer: bytes that one reader may have waiting for it.
        measure: the resident memory in bytes.
    """
    tidy = measure() + TIDY_BYTES
    for look in itertools.count(1):
        await asyncio.sleep(LOOK_SECONDS)
        resident = measure()
        if alarm.update(resident):
            log.warning(
                "memory is short" if alarm.active else "memory is free again",
                resident_mib=resident // MIB,
                alarm_mib=alarm.threshold // MIB,
            )
        hold = alarm.active and _unread_bytes(router, buffer) > alarm.threshold * WORTH_SHARE
        if hold != router.held:
            router.hold(held=hold)
        if alarm.active or (resident > tidy and look % TIDY_LOOKS == 0):
            await asyncio.to_thread(give_back_memory)


def _unread_bytes(router: Router, buffer: int) -> int:
    """What readers have yet to take, in queues or, where TCP stands, in transports."""
    now = router.statistics()
    return max(now.send_buffer_bytes, now.clogged_subscribers * buffer)
