"""Watches the process's memory.

It pauses all publishers while memory is short, and returns what a crowd has left behind.
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
"""How often to look at the memory.  The kernel does not report growth; a look costs 20 us, and in
this time all buffers grow by far less than the share left above the alarm."""

WORTH_SHARE = 0.05
"""Publishers are paused only while readers have this share of the threshold to take.  With less, a
pause would free nothing: the memory has gone elsewhere, and one reader that stands still must not
hold up everybody."""

TIDY_LOOKS = 20
"""Freed memory is returned after this many looks, 5 s.  Chunks are smaller than what the C library
maps separately, so a crowd of readers that has left would otherwise count for ever."""

TIDY_BYTES = 16 * MIB
"""Growth since the start below which there is little to return.  A useless try costs some 0.05 ms,
or 6 ms in a heap of 450 MiB full of holes; returning 500 MiB takes a thread 40 ms."""


async def watch_memory(
    router: Router,
    alarm: MemoryAlarm,
    buffer: int,
    measure: Callable[[], int] = resident_bytes,
) -> None:
    """Hold the router while memory is short, until cancelled.

    Args:
        router: the router whose publishers are paused.
        alarm: decides when memory is short.
        buffer: bytes that may wait for one reader.
        measure: returns the resident memory in bytes.
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
    """Bytes that readers have yet to take, in queues or, where TCP has stalled, in transports."""
    now = router.statistics()
    return max(now.send_buffer_bytes, now.clogged_subscribers * buffer)
