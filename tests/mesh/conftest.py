"""What the tests of whole workers here share with those in `tests.e2e`, and with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.e2e.conftest import keys
from tests.mesh.workers import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.e2e.clients import KeyRing
    from tests.mesh.workers import Workers

__all__ = ["keys"]


@pytest_asyncio.fixture
async def workers(tmp_path: Path, keys: KeyRing) -> AsyncIterator[Workers]:
    """Two of them."""
    async with working(tmp_path, keys) as started:
        yield started
