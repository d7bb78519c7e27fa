"""The places that have the library's verbs, each with nobody on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.library.places import Place, in_process, over_http, over_ssh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PLACES = {"broker": in_process, "ssh": over_ssh, "http": over_http}


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Each place in turn; that nobody is left on it is part of every test."""
    async with PLACES[request.param](tmp_path) as found:
        yield found
        await found.wait_members()
