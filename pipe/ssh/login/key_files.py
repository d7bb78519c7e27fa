"""Keys in files: a folder with a file for each user, in the format of sshd's ``authorized_keys``.

For those who manage keys with files, from a repository or a secret store.  A user who has a file
needs no account beforehand, and nobody can claim the name.  A line with an option that cannot be
honoured here lets nobody in: to leave the option out would give more than was meant.

All look-ups wait for the disk: see `pipe.ssh.login.files`.  What becomes of those who are logged in
when a file changes is `pipe.ssh.login.tenure`'s business.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from asyncssh.pattern import HostPatternList

from pipe.errors import AccessDenied, BadName, StartError, UsageError
from pipe.language.names import escape, parse_user, quoted
from pipe.ssh.login.files import WatchedFile, check_modes
from pipe.ssh.login.restricted import Restrictions
from pipe.store import read_public_key

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Iterable
    from pathlib import Path

log = structlog.get_logger()

MAX_FILES = 1024
"""Files of which the contents are remembered; the one that was asked longest ago goes first."""

_NEVER_GIVEN = frozenset(
    {
        "agent-forwarding",
        "no-agent-forwarding",
        "no-port-forwarding",
        "no-user-rc",
        "no-x11-forwarding",
        "permitlisten",
        "permitopen",
        "port-forwarding",
        "user-rc",
        "x11-forwarding",
    }
)
"""Options about what nobody is given here, so there is nothing to do for them."""

_KEY_STARTS = ("ssh-", "ecdsa-", "sk-")
"""How a line begins that has no options."""

_EXPIRY_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: a key, and on what terms it logs in."""

    fingerprint: str
    sources: tuple[str, ...] = ()
    """Lists of patterns, as sshd has them; each must let the client's address pass."""
    expires: float | None = None
    """Seconds since 1970."""
    restrictions: Restrictions = field(default_factory=Restrictions)

    def check(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, now: float) -> None:
        """Check that the key may be used from here and now.

        Raises:
            AccessDenied: It may not.
        """
        if self.expires is not None and now >= self.expires:
            raise AccessDenied("this key has expired")
        patterns = map(HostPatternList, self.sources)
        if not all(pattern.matches("", str(address), address) for pattern in patterns):
            raise AccessDenied(f"this key may not be used from {address}")


class KeyFiles:
    """The folder.

    Args:
        folder: Where the files are; each has the name of a user.

    Raises:
        StartError: It is no folder, or others can write to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: OrderedDict[str, WatchedFile[tuple[Entry, ...]]] = OrderedDict()
        self._complained: dict[str, str] = {}
        self._lock = threading.Lock()
        try:
            status = folder.stat()
            check_modes(status)
            self._identity = status.st_dev, status.st_ino
            for path in sorted(folder.iterdir()):
                self._check_name(path)
        except (OSError, UsageError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise StartError(
                f"cannot use the folder of authorized keys {escape(str(folder))}: {reason}"
            ) from error

    def knows(self, user: str) -> bool:
        """Whether a user has a file, whatever it says."""
        return (self._folder / user).exists()

    def find(
        self,
        user: str,
        fingerprint: str,
        address: ipaddress.IPv4Address | ipaddress.IPv6Address,
        now: float,
    ) -> Entry | None:
        """Look up whether a key logs a user in.

        Returns:
            The line that does; None if the user has no file, or the key is not in it.

        Raises:
            AccessDenied: The key is there, but not for this place or time.
        """
        try:
            entries = self._entries(user)
        except (FileNotFoundError, UsageError):
            return None
        return choose(entries, fingerprint, address, now)

    def look(self, users: Iterable[str]) -> dict[str, tuple[Entry, ...]]:
        """Read what the files of these users say now, to see who may stay.

        A file that is gone says nothing.  One that cannot be read or believed, or that is gone with
        all others because its disk is, is left out: that is no word of the operator's.
        """
        found = {}
        for user in users:
            try:
                found[user] = self._entries(user)
            except FileNotFoundError:
                if self._is_removed(user):
                    found[user] = ()
            except UsageError:
                continue
        return found

    def _entries(self, user: str) -> tuple[Entry, ...]:
        """What a user's file says.

        Raises:
            FileNotFoundError: There is none.
            UsageError: It cannot be read or believed; the log says why.
        """
        with self._lock:
            file = self._files.get(user)
            if file is None:
                path = self._folder / user
                file = WatchedFile(path, lambda text: tuple(_parse(text, path)))
            try:
                entries = file.read()
            except FileNotFoundError:
                self._files.pop(user, None)
                raise
            except UsageError as error:
                if self._complained.get(user) != error.message:
                    self._complained[user] = error.message
                    log.warning("key file not used", file=str(file.path), reason=error.message)
                raise
            self._complained.pop(user, None)
            self._files[user] = file
            self._files.move_to_end(user)
            if len(self._files) > MAX_FILES:
                self._files.popitem(last=False)
            return entries

    def _is_removed(self, user: str) -> bool:
        """Whether a file that was not found was removed.

        It was not if a link still stands in its place, or if all that is left of the folder is an
        empty one: the place where a disk was mounted.
        """
        try:
            if os.path.lexists(self._folder / user):
                return False
            status = self._folder.stat()
            identity = status.st_dev, status.st_ino
            if identity != self._identity and next(self._folder.iterdir(), None) is None:
                return False
        except OSError:
            return False
        self._identity = identity
        return True

    def _check_name(self, path: Path) -> None:
        try:
            parse_user(path.name)
        except BadName as error:
            if not path.name.startswith("."):
                log.warning("key file not used", file=str(path), reason=error.message)


def choose(
    entries: Iterable[Entry],
    fingerprint: str,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    now: float,
) -> Entry | None:
    """Choose the first line that lets a key in from this place at this time.

    Returns:
        None if the key is in none of them.

    Raises:
        AccessDenied: It is, but not for this place or time.
    """
    refusal = None
    for entry in entries:
        if entry.fingerprint == fingerprint:
            try:
                entry.check(address, now)
            except AccessDenied as error:
                refusal = error
            else:
                return entry
    if refusal:
        raise refusal
    return None


def parse_line(line: str) -> Entry:
    """Read one line of a key file.

    Raises:
        UsageError: It is no key, or has an option that cannot be honoured; one sentence says why.
    """
    if line.startswith(_KEY_STARTS):
        return Entry(read_public_key(line).fingerprint)
    options, rest = _split_options(line)
    entry = Entry(read_public_key(rest).fingerprint)
    for name, value in options:
        entry = _apply(entry, name, value)
    return entry


def _parse(text: str, path: Path) -> list[Entry]:
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            try:
                entries.append(parse_line(line))
            except UsageError as error:
                log.warning(
                    "key not used", file=str(path), line=number, reason=escape(error.message)
                )
    return entries


def _split_options(line: str) -> tuple[list[tuple[str, str | None]], str]:
    r"""Take the options off a line: ``name,name="value"``, where ``\"`` stands for a quote."""
    options: list[tuple[str, str | None]] = []
    name, place = "", 0
    while place < len(line):
        start = place
        while place < len(line) and line[place] not in ',="' and not line[place].isspace():
            place += 1
        name, value = line[start:place].lower(), None
        if line[place : place + 2] == '="':
            value, place = _quoted_value(line, place + 2)
        options.append((name, value))
        if line[place : place + 1] != ",":
            break
        place += 1
    if not name or not line[place : place + 1].isspace():
        raise UsageError(f"{quoted(line[:40])} is neither a key nor an option")
    return options, line[place:].strip()


def _quoted_value(line: str, place: int) -> tuple[str, int]:
    letters = []
    while place < len(line) and line[place] != '"':
        if line[place : place + 2] == '\\"':
            place += 1
        letters.append(line[place])
        place += 1
    if place == len(line):
        raise UsageError("a quote is not closed")
    return "".join(letters), place + 1


def _apply(entry: Entry, name: str, value: str | None) -> Entry:
    """The entry under one more option, in their order: ``restrict,pty`` gives the terminal back."""
    restrictions = entry.restrictions
    match name, value:
        case ("from", str()):
            return replace(entry, sources=(*entry.sources, value))
        case ("expiry-time", str()):
            ends = _expiry(value)
            return replace(entry, expires=min(ends, entry.expires or ends))
        case ("command", str()) if restrictions.command is None:
            return replace(entry, restrictions=replace(restrictions, command=value))
        case ("restrict" | "no-pty", None):
            return replace(entry, restrictions=replace(restrictions, pty=False))
        case ("pty", None):
            return replace(entry, restrictions=replace(restrictions, pty=True))
        case (str(), _) if name in _NEVER_GIVEN:
            return entry
    raise UsageError(f"the option {quoted(name)} cannot be honoured here")


def _expiry(text: str) -> float:
    """A moment as sshd writes it: ``YYYYMMDD`` or ``YYYYMMDDHHMM[SS]``, UTC if ``Z`` follows."""
    digits = text.removesuffix("Z")
    try:
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError
        moment = datetime.strptime(digits, _EXPIRY_FORMATS[len(digits)])  # noqa: DTZ007
        return (moment.replace(tzinfo=UTC) if text.endswith("Z") else moment).timestamp()
    except (KeyError, ValueError, OverflowError) as error:
        raise UsageError(f"the expiry-time {quoted(text)} is no date") from error
