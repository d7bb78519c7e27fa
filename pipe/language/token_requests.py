"""The requests and commands about tokens; `requests` includes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipe.errors import UsageError
from pipe.language.durations import SECONDS_PER_DAY, format_duration, parse_duration
from pipe.language.flags import Argument, Command, Flag, boolean, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LIFETIME = 365.0 * SECONDS_PER_DAY
"""Seconds that a token or link lasts at most: after a year nobody remembers what it is for."""

MAX_LOGIN = 30.0 * SECONDS_PER_DAY
"""Seconds that a browser stays logged in at most: it may do everything that its user may."""

MAX_USES = 10_000
"""How often a link may be used at most: the most subscribers that a publisher may wait for."""

MAX_NAME = 64
"""Characters of a token's name: it is a label, not a place to store data."""


@dataclass(frozen=True, slots=True)
class ListTokens:
    """``tokens``: the caller's tokens, links and browser logins."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class AddToken:
    """``tokens add``: make one; names and patterns as the user wrote them, duration in seconds."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    duration: float = 90.0 * SECONDS_PER_DAY
    name: str = ""
    admin: bool = False
    registry: bool = False
    logs: bool = False


@dataclass(frozen=True, slots=True)
class RemoveToken:
    """``tokens rm``: remove a token."""

    token: str


@dataclass(frozen=True, slots=True)
class LogIn:
    """``login``: make an address that logs a browser in; the session lasts ``duration`` seconds."""

    duration: float = 12 * 3600.0
    admin: bool = False


@dataclass(frozen=True, slots=True)
class MakeLink:
    """``link``: make an address where others read or write a topic; the duration is in seconds."""

    topic: str
    write: bool = False
    duration: float = 1.0 * SECONDS_PER_DAY
    uses: int = 1
    qr: bool = False


AboutTokens = ListTokens | AddToken | RemoveToken | LogIn | MakeLink


def _patterns(text: str) -> tuple[str, ...]:
    entries = tuple(dict.fromkeys(entry.strip() for entry in text.split(",")))
    if not all(entries):
        raise UsageError("the list has an empty entry: write it like build,ci-web")
    return entries


def _lifetime(most: float) -> Callable[[str], float]:
    """Make a reader for how long something lasts."""

    def convert(text: str) -> float:
        seconds = parse_duration(text)
        if 0 < seconds <= most:
            return seconds
        raise UsageError(f"it has to last, and can for {format_duration(most)} at most")

    return convert


def label(text: str) -> str:
    """Read what users call a thing of theirs."""
    if len(text) > MAX_NAME or not text.isprintable():
        raise UsageError(f"a name has at most {MAX_NAME} characters that can be printed")
    return text.strip()


TOKEN_COMMANDS = (
    Command(
        "tokens",
        ListTokens,
        "list your tokens, links and logins of browsers",
        "They let programs and browsers in over HTTP, and last no longer than the key that made"
        " them.",
        flags=(Flag("json", "--json", boolean, "print JSON"),),
    ),
    Command(
        "tokens add",
        AddToken,
        "make a token for a program, and print it once",
        "LIST has names and patterns of topics, with commas between them. The token does what it"
        " says there as long as you may.",
        flags=(
            Flag("read", "--read", _patterns, "topics that it may read", "LIST"),
            Flag("write", "--write", _patterns, "topics that it may write", "LIST"),
            Flag("registry", "--registry", boolean, "also the images of these names"),
            Flag("duration", "--for", _lifetime(MAX_LIFETIME), "how long it lasts", "DUR"),
            Flag("name", "--name", label, "what it is for, to tell it from others", "TEXT"),
            Flag("admin", "--admin", boolean, "as the admin that you are, also in others' spaces"),
            Flag("logs", "--logs", boolean, "read your logs, and send lines to the log drain"),
        ),
    ),
    Command(
        "tokens rm",
        RemoveToken,
        "remove a token, link or login, and end its sessions",
        "The start of its ID is enough if no other of yours starts so.",
        (Argument("token", "ID", required=True),),
    ),
    Command(
        "login",
        LogIn,
        "print an address that logs your browser in, once",
        'Open it within 5 minutes: xdg-open "$(ssh HOST login)"',
        flags=(
            Flag("duration", "--for", _lifetime(MAX_LOGIN), "how long you stay logged in", "DUR"),
            Flag("admin", "--admin", boolean, "as the admin that you are"),
        ),
    ),
    Command(
        "link",
        MakeLink,
        "print an address by which others read a topic of yours",
        "Whoever has the address needs no account.",
        (Argument("topic", "TOPIC", required=True),),
        (
            Flag("write", "--write", boolean, "they write to it instead"),
            Flag("duration", "--for", _lifetime(MAX_LIFETIME), "how long it lasts", "DUR"),
            Flag("uses", "-n --uses", whole_number(1, MAX_USES), "how often it works", "N"),
            Flag("qr", "--qr", boolean, "also as a QR code"),
        ),
    ),
)
"""The commands, in the order that help lists them."""
