"""Commands take turns: one user's thousand questions do not stand before another's one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sessions import People


@pytest.mark.parametrize(
    "command",
    [
        *("grant build carol", "revoke build carol", "keys", "ls", "grants", "explain build"),
        *("tokens", "login", "link build", "hooks", "hooks add x", "hooks test abcd"),
    ],
)
async def test_crowd_of_one_user_is_one(people: People, command: str) -> None:
    """Whoever asks after fifty of alice's has an answer before most of them."""
    answered: list[str] = []

    async def ask(user: str) -> None:
        await asyncio.gather(people.run(user, command), return_exceptions=True)
        answered.append(user)

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(ask("alice"))
        await asyncio.sleep(0)
        group.create_task(ask("bob"))
    assert answered.index("bob") <= 5


async def test_login_does_not_wait_for_a_crowd(people: People) -> None:
    """Each login looks at what has changed, and waits for one change of a user's and no more."""
    answered: list[str] = []

    async def ask() -> None:
        await people.run("alice", "grant build carol")
        answered.append("alice")

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(ask())
        await asyncio.sleep(0)
        await people.service.guard.catch_up()
        assert len(answered) <= 5


async def test_turnstile_forgets_who_has_gone(people: People) -> None:
    """Nothing is kept of a user whose commands have been answered."""
    await people.run("alice", "keys")
    assert not people.service.turnstile
