"""What can happen in a room."""

from __future__ import annotations

import enum
import json
from typing import NamedTuple

from pipe.language.names import escape

SERVER = "(server)"
UNKNOWN = "(unknown)"
"""Stand for the name of a user where there is none.  No user's name has a parenthesis."""


class Kind(enum.Enum):
    """The kinds of events, by what they are called in JSON."""

    SAID = "message"
    DID = "action"
    """What somebody says of themselves: ``/me waves``."""
    CAME = "join"
    LEFT = "leave"
    RENAMED = "rename"
    NOTE = "note"
    """From the server: something was left out, or an answer to a command."""


class Event(NamedTuple):
    """One of them.

    ``name`` is the user's, perhaps with a nick: ``alice~al``.  ``text`` comes from somebody else,
    and is neither escaped nor cut.  It is empty where there is nothing to say, and the new name
    where somebody has changed it.
    """

    kind: Kind
    user: str = ""
    name: str = ""
    text: str = ""

    @property
    def speech(self) -> bool:
        """Whether it is something that somebody has said."""
        return self.kind in {Kind.SAID, Kind.DID}


def note(text: str) -> Event:
    """Make an event of the server's own words."""
    return Event(Kind.NOTE, text=text)


def sentence(event: Event) -> str:
    """Write an event in one line for people, escaped, without a line end."""
    match event.kind:
        case Kind.SAID:
            return f"{event.name}: {escape(event.text)}"
        case Kind.DID:
            return f"* {event.name} {escape(event.text)}"
        case Kind.CAME:
            return f"-- {event.name} has come"
        case Kind.LEFT:
            return f"-- {event.name} has left"
        case Kind.RENAMED:
            return f"-- {event.name} is now {event.text}"
        case Kind.NOTE:
            return f"-- {event.text}"


def json_line(event: Event) -> str:
    """Write an event as a line of JSON, in ASCII, with the text as it came."""
    found = {"type": event.kind.value}
    if event.kind is not Kind.NOTE:
        found |= {"user": event.user, "name": event.name}
    if event.text:
        found["new_name" if event.kind is Kind.RENAMED else "text"] = event.text
    return json.dumps(found) + "\n"
