"""What shows how streams get on: requests, commands and flags; `requests` includes them."""

from __future__ import annotations

from dataclasses import dataclass

from pipe.language.flags import Argument, Command, Flag, boolean
from pipe.language.sizes import parse_size


@dataclass(frozen=True, slots=True)
class Stat:
    """``stat``: the members of a topic and their figures, once or again and again."""

    topic: str
    follow: bool = False
    json: bool = False


@dataclass(frozen=True, slots=True)
class Top:
    """``top``: the topics that the caller may see, or those that match, again and again."""

    pattern: str | None = None
    json: bool = False


PROGRESS_FLAGS = (
    Flag("progress", "-v --progress", boolean, "show once a second on stderr how far it is"),
    Flag("size", "--size", parse_size, "how much it will be: -v, per cent, time left", "SIZE"),
)
"""Of `pub`, `sub` and `pipe`.  The size alone asks for the progress, too."""

PROGRESS_COMMANDS = (
    Command(
        "stat",
        Stat,
        "show the members of a topic, and what they move",
        "Shows all of them to the topic's owner, and to others their own.",
        (Argument("topic", "TOPIC", required=True),),
        (
            Flag("follow", "-f --follow", boolean, "again every second, until Ctrl-C"),
            Flag("json", "--json", boolean, "print a line of JSON each time"),
        ),
    ),
    Command(
        "top",
        Top,
        "follow the list of topics that you may see",
        "Prints it every second until Ctrl-C, with ssh -t always in the same place.",
        (Argument("pattern", "PATTERN"),),
        (Flag("json", "--json", boolean, "print a line with a JSON array each time"),),
    ),
)
"""The commands, for `pipe.language.requests.COMMANDS`."""
