"""Keys in files: a folder with a file for each user, in the format of sshd's ``authorized_keys``.

For operators who keep keys in files, from a repository or a secret store.  A user with a file needs
no account beforehand, and nobody else can claim the name.  A line with an option that `pipe` cannot
honour lets nobody in: ignoring the option would give more than was meant.

All lookups wait for the disk: see `pipe.ssh.login.files`.  `pipe.ssh.login.tenure` handles users
who are logged in when a file changes.
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
from pipe.ssh.login.restrictions import Restrictions
from pipe.store import read_public_key

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Iterable
    from pathlib import Path

log = structlog.get_logger()

MAX_FILES = 1024
"""Files whose contents are cached, and names whose trouble is remembered: older ones go first."""

_NEVER_GIVEN = frozenset(
    {
        "agent-forwarding",
        "no-agent-forwarding",
        "no-user-rc",
        "no-x11-forwarding",
        "permitlisten",
        "user-rc",
        "x11-forwarding",
    }
)
"""Options about things that nobody gets here, so there is nothing to do for them."""

_KEY_STARTS = ("ssh-", "ecdsa-", "sk-")
"""How a line without options begins."""

_EXPIRY_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: a key, and the conditions for its login."""

    fingerprint: str
    sources: tuple[str, ...] = ()
    """Lists of patterns as in sshd; each must admit the client's address."""
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
        StartError: It is not a folder, or others can write to it.
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
        """Whether a user has a file, whatever it says; a link that leads nowhere is one, too.

        Raises:
            UsageError: That cannot be found out, as the folder cannot be looked into or its disk is
                gone; the log says why.
        """
        path = self._folder / user
        try:
            path.lstat()
        except FileNotFoundError:
            if self._is_removed(user):
                return False
            reason = "its folder was replaced, and is empty or missing"
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"  # as `find` says it
        else:
            return True
        with self._lock:
            self._complain(user, reason)
        raise UsageError(reason)

    def find(
        self,
        user: str,
        fingerprint: str,
        address: ipaddress.IPv4Address | ipaddress.IPv6Address,
        now: float,
    ) -> Entry | None:
        """Look up whether a key logs a user in.

        Returns:
            The matching line, or None if the user has no file or the key is not in it.

        Raises:
            AccessDenied: The key is there, but not for this address or time.
        """
        try:
            entries = self._entries(user)
        except (FileNotFoundError, UsageError):
            return None
        return choose(entries, fingerprint, address, now)

    def look(self, users: Iterable[str]) -> dict[str, tuple[Entry, ...]]:
        """Read what the files of these users say now, to see who may stay.

        A removed file has no lines.  One that cannot be read or trusted, or whose whole disk is
        gone, is left out: the operator did not change it.
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
            FileNotFoundError: There is no file.
            UsageError: It cannot be read or trusted; the log says why.
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
                self._complain(user, error.message)
                raise
            self._complained.pop(user, None)
            self._files[user] = file
            self._files.move_to_end(user)
            if len(self._files) > MAX_FILES:
                self._files.popitem(last=False)
            return entries

    def _complain(self, user: str, reason: str) -> None:
        """Say once in the log what is wrong with a user's file."""
        if self._complained.get(user) == reason:
            return
        self._complained[user] = reason
        if len(self._complained) > MAX_FILES:  # strangers choose the names
            del self._complained[next(iter(self._complained))]
        log.warning("key file not used", file=str(self._folder / user), reason=reason)

    def _is_removed(self, user: str) -> bool:
        """Whether a missing file was removed on purpose.

        It was not if a link is still in its place, or if the folder is empty: then it is the mount
        point of a missing disk.
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
    """Choose the first line that lets a key in from this address at this time.

    Returns:
        The line, or None if the key is in none of them.

    Raises:
        AccessDenied: The key is there, but not for this address or time.
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
        UsageError: It is not a key, or has an option that `pipe` cannot honour; the message says.
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
    r"""Split the options off a line: ``name,name="value"``, where ``\"`` stands for a quote."""
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
    """Add an option to an entry.  Order matters: ``restrict,pty`` gives the terminal back."""
    restrictions = entry.restrictions
    match name, value:
        case ("from", str()):
            return replace(entry, sources=(*entry.sources, value))
        case ("expiry-time", str()):
            ends = _expiry(value)
            return replace(entry, expires=min(ends, entry.expires or ends))
        case ("command", str()) if restrictions.command is None:
            return replace(entry, restrictions=replace(restrictions, command=value))
        case ("restrict", None):
            return replace(entry, restrictions=replace(restrictions, pty=False, forwarding=False))
        case ("pty" | "no-pty", None):
            return replace(entry, restrictions=replace(restrictions, pty=name == "pty"))
        case ("port-forwarding" | "no-port-forwarding", None):
            allowed = name == "port-forwarding"
            return replace(entry, restrictions=replace(restrictions, forwarding=allowed))
        case ("permitopen", str()):
            opens = restrictions.opens | {_place(value)}
            return replace(entry, restrictions=replace(restrictions, opens=opens))
        case (str(), _) if name in _NEVER_GIVEN:
            return entry
    raise UsageError(f"the option {quoted(name)} cannot be honoured here")


def _place(text: str) -> tuple[str, str]:
    """Read a place as sshd writes it: ``host:port`` or ``[address]:port``; ``*`` is any port."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # nobody can tell where the port begins
    number = port == "*" or (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16)
    if not (colon and host and number):
        raise UsageError(f"the permitopen {quoted(text)} is no host:port")
    return host, port if port == "*" else str(int(port))


def _expiry(text: str) -> float:
    """Read a time as sshd writes it: ``YYYYMMDD`` or ``YYYYMMDDHHMM[SS]``, UTC if ``Z`` follows."""
    digits = text.removesuffix("Z")
    try:
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError
        moment = datetime.strptime(digits, _EXPIRY_FORMATS[len(digits)])  # noqa: DTZ007
        return (moment.replace(tzinfo=UTC) if text.endswith("Z") else moment).timestamp()
    except (KeyError, ValueError, OverflowError) as error:
        raise UsageError(f"the expiry-time {quoted(text)} is no date") from error
