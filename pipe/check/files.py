"""The folder and files that the server reads: are they there, and whose are they?"""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

from pipe.check.findings import Finding, error, ok, warning
from pipe.errors import StartError
from pipe.language.names import escape
from pipe.settings import DATABASE_NAME
from pipe.ssh.login.key_files import KeyFiles
from pipe.ssh.login.logins import open_authorities
from pipe.ssh.server import read_host_key
from pipe.store.web_key import read_web_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pipe.settings import Settings

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_files(settings: Settings) -> Iterator[Finding]:
    """Look at all files but the database and the certificate."""
    folder = settings.data_dir.absolute()
    try:
        yield _check_folder(folder)
    except OSError as problem:
        yield error(
            "data-dir",
            f"cannot look at {escape(str(folder))}: {problem.strerror}; check it as the server's"
            " user, or choose another --data-dir",
        )
        return
    if folder.is_dir() and os.access(folder, os.X_OK):
        used = (folder / DATABASE_NAME).exists()
        yield _check_key("host key", settings.host_key_path, used, _fingerprint)
        yield _check_key("web key", settings.web_key_path, used, _read_web_key)
    if settings.authorized_keys:
        yield _check_key_files(settings.authorized_keys)
    if settings.trusted_ca:
        yield _check_authorities(settings.trusted_ca)


def closed_to_others(path: Path) -> bool:
    """Return whether only the owner can read or write a file."""
    return not path.stat().st_mode & _OTHERS


def _check_folder(folder: Path) -> Finding:
    shown = escape(str(folder))
    try:
        status = folder.stat()  # `exists` says no, from Python 3.14 on, where one may not look
    except (FileNotFoundError, NotADirectoryError):
        return _check_parent(folder, shown)
    if not stat.S_ISDIR(status.st_mode):
        return error("data-dir", f"{shown} is not a folder: choose another --data-dir")
    if os.geteuid() == 0 != status.st_uid:
        name = _user_name(status.st_uid)
        return warning(
            "data-dir",
            f"{shown} belongs to {name}, and root may do more: check it again as the server's"
            f" user, with: runuser -u {name} -- pipe check",
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return error(
            "data-dir",
            f"{shown} belongs to {_user_name(status.st_uid)} and cannot be used by"
            f" {_user_name(os.geteuid())}: chown it, or choose another --data-dir",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        return warning(
            "data-dir",
            f"{shown} is open to others, who could put in another host key or database: chmod go-w",
        )
    return ok("data-dir", f"{shown} is there, and only its owner can write to it")


def _check_parent(folder: Path, shown: str) -> Finding:
    parent = next(one for one in folder.parents if one.exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return ok("data-dir", f"{shown} is not there yet: the first start makes it")
    return error(
        "data-dir",
        f"{shown} is not there, and cannot be made in {escape(str(parent))}: make it, or choose"
        " another --data-dir",
    )


def _check_key(about: str, path: Path, used: bool, read: Callable[[Path], str]) -> Finding:
    shown = escape(str(path.absolute()))
    if not path.exists():
        if used:
            return warning(
                about,
                f"{shown} is missing beside a database: if there was one, restore it from a backup,"
                " or the next start makes a new one",
            )
        return ok(about, f"{shown} is not there yet: the first start makes it")
    try:
        what = read(path)
    except StartError as problem:
        return error(about, escape(problem.message))
    if not closed_to_others(path):
        return warning(
            about,
            f"{shown} is open to others: chmod 600 it, and replace it if somebody may have read it",
        )
    return ok(about, f"{shown} {what}")


def _fingerprint(path: Path) -> str:
    return f"is {read_host_key(path).get_fingerprint()}"


def _read_web_key(path: Path) -> str:
    read_web_key(path)
    return "is whole"


def _check_key_files(folder: Path) -> Finding:
    try:
        KeyFiles(folder)
    except StartError as problem:
        return error("authorized-keys", problem.message)
    return ok("authorized-keys", f"{escape(str(folder))} can be used")


def _check_authorities(path: Path) -> Finding:
    try:
        count = len(open_authorities(path).read())
    except StartError as problem:
        return error("trusted-ca", problem.message)
    except OSError as problem:
        return error("trusted-ca", f"cannot read {escape(str(path))}: {problem.strerror}")
    if not count:
        return warning("trusted-ca", f"{escape(str(path))} has no key of a CA: add one in a line")
    return ok("trusted-ca", f"{escape(str(path))} can be used")


def _user_name(number: int) -> str:
    try:
        return escape(pwd.getpwuid(number).pw_name)
    except KeyError:
        return f"user {number}"
