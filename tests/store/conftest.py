"""A database for each test: SQLite's and PostgreSQL's, or SQLite's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pipe.store import NewKey, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def new_key(name: str) -> NewKey:
    """Make a key: the store does not look into it."""
    return NewKey(f"SHA256:{name}", "ssh-ed25519", f"ssh-ed25519 {name}", f"{name}@host")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The place of a database in a file, in a folder that is not there yet."""
    return tmp_path / "data" / "pipe.db"


@pytest.fixture
def sqlite_url(path: Path) -> str:
    """The URL of a database in a file."""
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue("postgres").new_database())


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """An open store without users, of either kind."""
    async with await Store.open(url) as store:
        yield store


@pytest_asyncio.fixture
async def sqlite_store(sqlite_url: str) -> AsyncIterator[Store]:
    """An open store without users, in a file."""
    async with await Store.open(sqlite_url) as store:
        yield store
