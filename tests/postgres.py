"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import psycopg

from .e2e.processes import DEADLINE, Process

ADMINISTRATOR: Final = "postgres"
"""The role that tests are, and the user that runs the server where the tests are root's."""

_DEBIANS: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs of each version, out of everybody's path."""

_SETTINGS: Final = (
    "fsync=off",
    "full_page_writes=off",
    "max_connections=30",
    "shared_buffers=8MB",
    "jit=off",
)
"""No care for a power cut."""


def _program(name: str) -> str:
    found = [str(path) for path in sorted(_DEBIANS.glob(f"*/bin/{name}"))]
    path = found[-1] if found else shutil.which(name)
    assert path, f"no {name}: install PostgreSQL, Debian's package is called postgresql"
    return path


def _as_administrator(*command: str) -> list[str]:
    """The command as somebody else than root, which PostgreSQL refuses to run as."""
    if os.geteuid():
        return [*command]
    who = ["--reuid", ADMINISTRATOR, "--regid", ADMINISTRATOR, "--clear-groups"]
    return ["setpriv", *who, "--", *command]


class Postgres:
    """One cluster.  It runs from the start, and ends with ``with``.

    Args:
        address: of this machine, where all who reach it are trusted; by default there is none.
    """

    def __init__(self, address: str = "") -> None:
        self._address = address
        # Not in pytest's folder, into which nobody else may look.
        self.folder = Path(tempfile.mkdtemp(prefix="pipe-postgres-"))
        if not os.geteuid():
            account = pwd.getpwnam(ADMINISTRATOR)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._databases = 0
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            _as_administrator(
                _program("initdb"), *options, "-U", ADMINISTRATOR, "-D", str(self.folder / "data")
            ),
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            timeout=DEADLINE,
        )
        if address:
            with (self.folder / "data" / "pg_hba.conf").open("a", encoding="ascii") as rules:
                rules.write("host all all all trust\n")
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again."""
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        self._process = Process(
            _as_administrator(
                _program("postgres"),
                *("-D", str(self.folder / "data"), "-k", str(self.folder)),
                *settings,
                *("-c", f"listen_addresses={self._address}"),
            ),
            directory=self.folder,
        )
        self._process.wait_stderr("ready to accept connections", DEADLINE)

    def stop(self) -> None:
        """End it, and the connections that there are; what was committed stays."""
        self._process.interrupt()
        self._process.wait(DEADLINE)
        self._process.kill()

    def new_database(self, encoding: str = "UTF8") -> str:
        """Make an empty database.

        Returns:
            Its URL.
        """
        self._databases += 1
        name = f"test{self._databases}"
        self.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
        return self.url(name)

    def url(self, database: str) -> str:
        """How one of its databases is reached."""
        return f"postgresql://{ADMINISTRATOR}@/{database}?host={self.folder}"

    def url_from_afar(self, url: str) -> str:
        """How a database with such a URL is reached by the cluster's address."""
        return f"postgresql://{ADMINISTRATOR}@{self._address}{urlsplit(url).path}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement, each in a transaction of its own, and return what it says."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.running:
            self.stop()
        shutil.rmtree(self.folder)
