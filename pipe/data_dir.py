"""The folder of the host key and the SQLite file."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import structlog

from pipe.errors import StartError
from pipe.language.names import escape
from pipe.settings import DATABASE_NAME

if TYPE_CHECKING:
    from pipe.settings import Settings

log = structlog.get_logger()


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
