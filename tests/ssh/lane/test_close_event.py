"""The lane's substitute for asyncssh's close events."""

from __future__ import annotations

import asyncio

from pipe.ssh.lane.close_event import CloseEvent


async def test_wakes_all_who_wait() -> None:
    """It wakes whoever has waited, and lets through whoever comes later."""
    event = CloseEvent()
    waiting = [asyncio.ensure_future(event.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not event.is_set()
    assert not any(task.done() for task in waiting)
    event.set()
    assert event.is_set()
    assert await asyncio.gather(*waiting, event.wait()) == [True] * 3


async def test_one_who_gives_up_takes_nobody_along() -> None:
    """Whoever is cancelled while waiting leaves the others waiting, and they are woken."""
    event = CloseEvent()
    waiting = [asyncio.ensure_future(event.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    assert not waiting[1].done()
    event.set()
    assert await waiting[1]
