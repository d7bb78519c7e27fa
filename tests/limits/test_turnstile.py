"""One command of each user at a time."""

from __future__ import annotations

import asyncio

import pytest

from pipe.limits.turnstile import Turnstile


async def until_all_wait() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Works:
    """Commands that are at work until they are told to finish."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.begun: list[str] = []
        self.finish = {name: asyncio.Event() for name in ("a1", "a2", "a3", "b1")}
        self.tasks = {name: asyncio.create_task(self._work(name)) for name in self.finish}
        self._turnstile = turnstile

    async def _work(self, name: str) -> None:
        async with self._turnstile.turn(name[0]):
            self.begun.append(name)
            await self.finish[name].wait()


async def test_one_at_a_time_for_each_user() -> None:
    """The next begins when the one before has ended; another user's does not wait."""
    works = Works(Turnstile())
    await until_all_wait()
    assert works.begun == ["a1", "b1"]
    works.finish["a1"].set()
    await until_all_wait()
    assert works.begun == ["a1", "b1", "a2"]
    works.finish["a2"].set()
    await until_all_wait()
    assert works.begun[-1] == "a3"
    for event in works.finish.values():
        event.set()
    await asyncio.gather(*works.tasks.values())


async def test_one_that_goes_away_makes_way() -> None:
    """One that is cancelled, at work or in the queue, or that fails holds up nobody."""
    works = Works(Turnstile())
    await until_all_wait()
    works.tasks["a2"].cancel()
    works.tasks["a1"].cancel()
    await until_all_wait()
    assert works.begun == ["a1", "b1", "a3"]
    works.tasks["a3"].cancel()
    works.tasks["b1"].cancel()
    await asyncio.gather(*works.tasks.values(), return_exceptions=True)


async def test_a_failure_makes_way() -> None:
    """A command that fails lets the next one through."""
    turnstile = Turnstile()
    with pytest.raises(ValueError, match="bad"):
        async with turnstile.turn("a"):
            raise ValueError("bad")
    async with asyncio.timeout(10), turnstile.turn("a"):
        pass


async def test_users_are_forgotten() -> None:
    """Nobody is remembered whose commands have all been answered."""
    turnstile = Turnstile()
    for number in range(100):
        async with turnstile.turn(f"user{number}"):
            assert len(turnstile) == 1
    assert len(turnstile) == 0


async def test_each_begins_in_a_turn_of_its_own() -> None:
    """Commands that wait for nothing leave room in between for the others."""
    turnstile, order = Turnstile(), []

    async def command() -> None:
        async with turnstile.turn("a"):
            order.append("command")

    async def other() -> None:
        for _ in range(3):
            order.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(command(), command(), other())
    assert order.index("command") > 0
    first, second = (place for place, what in enumerate(order) if what == "command")
    assert "other" in order[first:second]
