"""Looks after the process's memory, and pauses all publishers while there is too little of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from pipe.memory import (
    ALARM_SHARE,
    MemoryAlarm,
    available_bytes,
    give_back_memory,
    resident_bytes,
)
from pipe.quantities import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.service import Service

log = structlog.get_logger()

LOOK_SECONDS = 0.25
"""How often the memory is looked at.  The kernel tells nobody when it grows; a look costs 20 us,
and what all buffers can grow by in this time is far less than the share left above the alarm."""


WORTH_SHARE = 0.05
"""Of the threshold: publishers are paused only while readers have this much to take.  With less,
a pause would free nothing: the memory has gone elsewhere, and one reader that stands still must
not hold up everybody."""


async def watch_memory(
    service: Service,
    measure: Callable[[], int] = resident_bytes,
    available: Callable[[], int] = available_bytes,
) -> None:
    """Hold the router while memory is short, until cancelled.

    Args:
        service: whose settings and router these are.
        measure: the resident memory in bytes.
        available: the memory that there is, in bytes; 0 where nobody knows: then there is no alarm
            unless the settings have a threshold.
    """
    threshold = service.settings.memory_alarm or int(available() * ALARM_SHARE)
    if not threshold:
        return
    alarm = MemoryAlarm(threshold)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        resident = measure()
        if alarm.update(resident):
            service.memory_alarm = alarm.active
            log.warning(
                "memory is short" if alarm.active else "memory is free again",
                resident_mib=resident // MIB,
                alarm_mib=threshold // MIB,
            )
        hold = alarm.active and _unread_bytes(service) > threshold * WORTH_SHARE
        if hold != service.router.held:
            service.router.hold(held=hold)
        if alarm.active:
            await asyncio.to_thread(give_back_memory)


def _unread_bytes(service: Service) -> int:
    """What readers have yet to take, in queues or, where TCP stands, in transports."""
    now = service.router.statistics()
    return max(now.send_buffer_bytes, now.clogged_subscribers * service.settings.buffer)
