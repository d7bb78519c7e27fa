"""What people type: words to say, or a command that begins with a slash."""

from __future__ import annotations

import enum
from typing import NamedTuple

from pipe.errors import UsageError
from pipe.language.chat_requests import parse_nick


class Deed(enum.Enum):
    """What a line asks for."""

    SAY = ""
    ACT = "me"
    WHO = "who"
    NICK = "nick"
    COLOUR = "color"
    HELP = "help"
    QUIT = "quit"


class Typed(NamedTuple):
    """A line as it is meant; ``text`` is what follows the command."""

    deed: Deed
    text: str


_ALIASES = {"exit": "quit", "names": "who"}
"""What other chats call it."""

NAMES = tuple(sorted(f"/{deed.value}" for deed in Deed if deed.value))
"""The commands, for completion."""


def help_lines(user: str) -> tuple[str, ...]:
    """Return what ``/help`` shows a user."""
    return (
        f"/me TEXT        say what you do: * {user} TEXT",
        "/who            who is here",
        f"/nick [NAME]    be shown as {user}~NAME, or as {user} again",
        "/color on|off   colours or none; chat --no-color begins without",
        "/quit           leave, as Ctrl-D does; Ctrl-C clears the line, or leaves",
        "//TEXT          say /TEXT",
        "Tab completes names. Pasted lines wait for Enter, and are said together.",
    )


def read(line: str) -> Typed:
    """Read a line.

    Raises:
        UsageError: there is no such command, or not with these words.
    """
    if not line.startswith("/"):
        return Typed(Deed.SAY, line)
    if line.startswith("//"):
        return Typed(Deed.SAY, line[1:])
    word, _, rest = line[1:].partition(" ")
    text = rest.strip()
    try:
        deed = Deed(_ALIASES.get(word.lower(), word.lower()))
    except ValueError:
        deed = Deed.SAY
    match deed:
        case Deed.SAY:
            raise UsageError(f"there is no command /{word}: see /help, or begin with // to say it")
        case Deed.ACT:
            if not text:
                raise UsageError("/me needs words: /me waves")
        case Deed.NICK:
            if text:
                parse_nick(text)
        case Deed.COLOUR:
            if text not in {"on", "off"}:
                raise UsageError("/color takes on or off")
        case Deed.WHO | Deed.HELP | Deed.QUIT:
            if text:
                raise UsageError(f"/{word} takes no words: begin with // to say it")
    return Typed(deed, text)
