"""A server for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .served import Served, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server on which nobody is; that it is so again afterwards is part of every test."""
    async with serving() as found:
        yield found
