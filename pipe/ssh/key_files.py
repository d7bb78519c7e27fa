"""Keys in files: a folder with a file for each user, in the format of sshd's ``authorized_keys``.

For those who manage keys with files, from a repository or a secret store.  A user who has a file
needs no account beforehand, and nobody can claim the name.  A line with an option that cannot be
honoured here lets nobody in: to leave the option out would give more than was meant.

All look-ups wait for the disk: see `pipe.ssh.files`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from asyncssh.pattern import HostPatternList

from pipe.errors import AccessDenied, BadName, StartError, UsageError
from pipe.names import escape, parse_user, quoted
from pipe.ssh.files import WatchedFile, check_modes
from pipe.ssh.restricted import Restrictions
from pipe.store import read_public_key

if TYPE_CHECKING:
    import ipaddress
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
    sources: tuple[HostPatternList, ...] = ()
    """Each of these must let the client's address pass."""
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
        if not all(source.matches("", str(address), address) for source in self.sources):
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
            check_modes(folder.stat())
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
    ) -> Restrictions | None:
        """Look up whether a key logs a user in.

        Returns:
            What the login is held to; None if the user has no file, or the key is not in it.

        Raises:
            AccessDenied: The key is there, but not for this place or time.
        """
        refusal = None
        with self._lock:
            entries = self._entries(user)
        for entry in entries:
            if entry.fingerprint == fingerprint:
                try:
                    entry.check(address, now)
                except AccessDenied as error:
                    refusal = error
                else:
                    return entry.restrictions
        if refusal:
            raise refusal
        return None

    def _entries(self, user: str) -> tuple[Entry, ...]:
        file = self._files.get(user)
        if file is None:
            path = self._folder / user
            file = WatchedFile(path, lambda text: tuple(_parse(text, path)))
        try:
            entries = file.read()
        except FileNotFoundError:
            self._files.pop(user, None)
            return ()
        except UsageError as error:
            if self._complained.get(user) != error.message:
                self._complained[user] = error.message
                log.warning("key file not used", file=str(file.path), reason=error.message)
            entries = ()
        else:
            self._complained.pop(user, None)
        self._files[user] = file
        self._files.move_to_end(user)
        if len(self._files) > MAX_FILES:
            self._files.popitem(last=False)
        return entries

    def _check_name(self, path: Path) -> None:
        try:
            parse_user(path.name)
        except BadName as error:
            if not path.name.startswith("."):
                log.warning("key file not used", file=str(path), reason=error.message)


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
    for number, line in enumerate(text.splitlines(), start=1):
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
            return replace(entry, sources=(*entry.sources, HostPatternList(value)))
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
