"""The request and command about logs; `requests` includes them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pipe.errors import UsageError
from pipe.language.durations import parse_duration
from pipe.language.flags import Command, Flag, boolean, whole_number
from pipe.language.names import parse_user

MAX_LINES = 200
"""Past lines that are shown at most, as no more are kept of each user."""

DEFAULT_LINES = 10
"""Past lines that are shown unless something else is asked for, as with ``tail``."""

MAX_TEXT = 256
"""Characters of what is searched for."""


class Level(enum.IntEnum):
    """How important a line is: the names of Go's slog."""

    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Logs:
    """``logs``: lines about the caller, those of late and those to come.

    ``lines`` is how many past lines to show: by default `DEFAULT_LINES`, or all of the time that
    ``since`` names, in seconds.  ``level`` is the least important one to show.
    """

    follow: bool = True
    lines: int | None = None
    level: Level = Level.DEBUG
    service: str = ""
    grep: str = ""
    since: float | None = None
    everybody: bool = False
    user: str = ""

    def __post_init__(self) -> None:
        """Refuse flags that contradict each other."""
        if self.everybody and self.user:
            raise UsageError("--all shows everybody's lines: leave out --user")

    @property
    def past(self) -> int:
        """How many past lines to show at most."""
        if self.lines is not None:
            return self.lines
        return DEFAULT_LINES if self.since is None else MAX_LINES


def _level(text: str) -> Level:
    word = text.upper()
    try:
        return Level["WARN" if word == "WARNING" else word]
    except KeyError:
        raise UsageError("it takes debug, info, warn or error") from None


def _text(text: str) -> str:
    if not 0 < len(text) <= MAX_TEXT:
        raise UsageError(f"it takes 1 to {MAX_TEXT} characters")
    return text


LOG_COMMANDS = (
    Command(
        "logs",
        Logs,
        "follow what is logged about you",
        "Prints JSON lines, from the services that log here and from this server: ssh HOST logs"
        " | jq",
        flags=(
            Flag("follow", "-f --follow", boolean, "wait for more; -f=false ends after the past"),
            Flag(
                "lines",
                "-n --lines",
                whole_number(0, MAX_LINES),
                f"how many past lines come first (default {DEFAULT_LINES})",
                "N",
            ),
            Flag("level", "--level", _level, "the least: debug, info, warn or error", "LEVEL"),
            Flag("service", "--service", _text, "only of this service", "NAME"),
            Flag("grep", "--grep", _text, "only lines with this text in them", "TEXT"),
            Flag("since", "--since", parse_duration, "past lines of so long, all of them", "DUR"),
            Flag("everybody", "--all", boolean, "everybody's lines, for admins"),
            Flag("user", "--user", parse_user, "this user's lines, for admins", "NAME"),
        ),
    ),
)
"""The command, for `pipe.language.requests.COMMANDS`."""
