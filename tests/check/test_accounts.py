"""The check of the accounts database."""

from __future__ import annotations

import asyncio
import sqlite3
from types import SimpleNamespace
from typing import TYPE_CHECKING

from pipe.check import accounts
from pipe.check.accounts import check_accounts
from pipe.check.findings import Level
from pipe.store import Store
from pipe.store.schema import HEAD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from pipe.settings import Settings
    from tests.postgres import Postgres


def fill(url: str, *names: str) -> None:
    """Make a database with these users."""

    async def fill() -> None:
        async with await Store.open(url) as store:
            for name in names:
                await store.add_user(name)

    asyncio.run(fill())


def look(settings: Settings) -> list[tuple[str, str]]:
    """Level and text of each finding."""
    return [(finding.level.value, str(finding)) for finding in check_accounts(settings)]


def test_no_database_yet(make: Callable[..., Settings], folder: Path) -> None:
    """A file that is not there is the first start's to make."""
    ((level, line),) = look(make())
    assert (level, "the first start makes it" in line) == ("ok", True)
    assert not list(folder.iterdir())


def test_current_sqlite(make: Callable[..., Settings], folder: Path) -> None:
    """A database of this version is fine, and the look leaves no file behind."""
    settings = make()
    fill(settings.resolved_database_url, "alice")
    ((level, line),) = look(settings)
    assert (level, f"at revision {HEAD}" in line) == ("ok", True)
    assert [path.name for path in folder.iterdir()] == ["pipe.db"]


def test_sqlite_beside_a_server(make: Callable[..., Settings]) -> None:
    """While a server has the file open, its latest changes are seen."""
    settings = make(log_drain="ops/logs")

    async def compare() -> None:
        async with await Store.open(settings.resolved_database_url) as store:
            assert [level for level, _ in look(settings)] == ["ok", "warning"]
            await store.add_user("ops")
            assert [level for level, _ in look(settings)] == ["ok"]

    asyncio.run(compare())


def set_revision(folder: Path, revision: str) -> None:
    """Say that the database is of another version."""
    with sqlite3.connect(folder / "pipe.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()


def test_older_and_newer_sqlite(make: Callable[..., Settings], folder: Path) -> None:
    """An older database will be migrated, and is not now; a newer one stops the start."""
    settings = make()
    fill(settings.resolved_database_url)
    set_revision(folder, "0001")
    for _ in range(2):
        ((level, line),) = look(settings)
        assert (level, "at revision 0001: the next start" in line) == ("warning", True)
    set_revision(folder, "9999")
    ((level, line),) = look(settings)
    assert (level, "does not know" in line) == ("error", True)


def test_broken_sqlite(make: Callable[..., Settings], folder: Path) -> None:
    """What is no database is an error, and a file for everybody a warning."""
    (folder / "pipe.db").write_bytes(b"no database" * 100)
    (folder / "pipe.db").chmod(0o644)
    (open_one, _), (broken, line) = look(make())
    assert (open_one, broken) == ("warning", "error")
    assert "file is not a database" in line


def test_nobody_can_log_in(make: Callable[..., Settings]) -> None:
    """Where sign-up is closed somebody has to add the first user."""
    assert "pipe user add" in look(make(host="0.0.0.0"))[-1][1]  # noqa: S104 - nobody listens
    fill(make().resolved_database_url, "alice")
    assert len(look(make(host="0.0.0.0"))) == 1  # noqa: S104 - nobody listens


def test_owner_of_the_drain(make: Callable[..., Settings], tmp_path: Path) -> None:
    """The topic of log lines needs an owner, among the accounts or the key files."""
    assert "pipe user add ops" in look(make(log_drain="ops/logs"))[-1][1]
    (tmp_path / "ops").touch()
    ((level, _),) = look(make(log_drain="ops/logs", authorized_keys=tmp_path))
    assert level == "ok"


def test_postgres(make: Callable[..., Settings], postgres: Postgres) -> None:
    """An empty database stays empty; one of this version is fine; a missing one is an error."""
    url = postgres.new_database()
    settings = make(database_url=url, log_drain="ops/logs")
    for _ in range(2):
        assert "no accounts yet" in look(settings)[0][1]
    fill(url, "ops")
    ((level, line),) = look(settings)
    assert (level, f"at revision {HEAD}" in line) == ("ok", True)
    ((level, line),) = look(make(database_url=postgres.url("nowhere")))
    assert (level, "does not exist" in line) == ("error", True)


def test_clock_of_postgres(
    make: Callable[..., Settings], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks that are apart are told."""
    monkeypatch.setattr(accounts, "time", SimpleNamespace(time=lambda: 1_000_000_000.0))
    found = list(check_accounts(make(database_url=postgres.new_database())))
    assert (found[1].level, found[1].about) == (Level.WARNING, "clock")
    assert "ahead of this machine's" in found[1].text
