"""A service with a few people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sessions import People, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def people() -> AsyncIterator[People]:
    """Alice, bob and carol, and a boss who is an admin."""
    async with started() as service:
        people = People(service)
        await people.add("alice", "bob", "carol")
        await people.add("boss", admin=True)
        yield people
