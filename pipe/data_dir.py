"""The folder of the host key and the SQLite file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from pipe.errors import StartError
from pipe.language.names import escape
from pipe.settings import DATABASE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.settings import Settings

log = structlog.get_logger()

LOCK_SUFFIX = ".lock"
"""Behind the name of the SQLite file: what one server holds locked beside it."""


def make_data_dir(settings: Settings) -> frozenset[str]:
    """Make it unless it is there, and warn of one that is open to others.

    Returns:
        The names of what is in it already, as `files_of` has them.

    Raises:
        StartError: it cannot be used.
    """
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(settings.data_dir, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise StartError(
            f"cannot use the data folder {settings.data_dir}: {reason}; choose another --data-dir"
        ) from error
    mode = settings.data_dir.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        log.warning(
            "data folder is open to others",
            path=escape(str(settings.data_dir)),
            reason="whoever can write there can put in another host key or database: chmod go-w",
        )
    return files_of(settings)


def files_of(settings: Settings) -> frozenset[str]:
    """The names of the files that a server has made in its folder, on its first start as a rule."""
    database = settings.data_dir / DATABASE_NAME
    paths = (settings.host_key_path, settings.web_key_path, database)
    return frozenset(path.name for path in paths if path.exists())


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Keep the SQLite file from other servers, which would not hear of what this one does.

    The lock ends with its process, however that ends.  ``pipe user`` and its like need none, and
    PostgreSQL is meant to be shared.

    Raises:
        StartError: another server has the file.
    """
    path = _database_file(settings)
    try:
        file = path.with_name(path.name + LOCK_SUFFIX).open("a+") if path else None
    except OSError:  # whoever opens the database says what is wrong
        file = None
    if path is None or file is None:
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StartError(
                f"cannot use {path}: another server has it (process {escape(file.read(20))});"
                " stop that one, or choose another --data-dir"
            ) from None
        except OSError as error:
            log.warning("database is not locked", path=escape(str(path)), reason=error.strerror)
        with contextlib.suppress(OSError):  # the disk is full: it is locked all the same
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def _database_file(settings: Settings) -> Path | None:
    """The SQLite file; None if the database is another one, or in memory."""
    scheme, _, rest = settings.resolved_database_url.partition("://")
    path = rest.partition("?")[0].removeprefix("/")
    if scheme.partition("+")[0] != "sqlite" or path in {"", ":memory:"}:
        return None
    return Path(path)
