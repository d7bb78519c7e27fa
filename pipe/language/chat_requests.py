"""The request and command for a chat; `requests` includes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipe.errors import UsageError
from pipe.language.flags import Argument, Command, Flag, boolean, whole_number
from pipe.language.past import check_keeping, parse_linger
from pipe.language.sharing import SHARING
from pipe.language.sizes import parse_size

DEFAULT_KEEP = 64 * 1024
"""Bytes of what was said that a room keeps for those who come: some thousand lines."""

MAX_LINES = 200
"""Past lines that are shown at most: some screens."""

DEFAULT_LINES = 20
"""Past lines that a terminal shows first."""

_NICK = re.compile(r"[A-Za-z0-9_-]{1,16}")
"""ASCII alone, so that no two look the same.  None has the ``~`` that stands before it."""


def parse_nick(text: str) -> str:
    """Check a name that a user takes beside the account's.

    Raises:
        UsageError: it says what is allowed.
    """
    if not _NICK.fullmatch(text):
        raise UsageError("a nick has 1 to 16 of A-Z a-z 0-9 _ -")
    return text


@dataclass(frozen=True, slots=True)
class Chat:
    """``chat``: talk on a topic.

    ``keep`` is None for `DEFAULT_KEEP`, or less if the server keeps less.  ``lines`` is how many
    past lines come first: by default `DEFAULT_LINES` in a terminal, and none for a program.
    """

    topic: str
    nick: str = ""
    lines: int | None = None
    keep: int | None = None
    linger: float = 0.0
    public: bool = False
    access: tuple[str, ...] | None = None
    plain: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse flags that contradict each other."""
        keep = DEFAULT_KEEP if self.keep is None else self.keep
        check_keeping(keep, self.linger, whole=False, dealt_out=False)


CHAT_COMMANDS = (
    Command(
        "chat",
        Chat,
        "talk with everybody on a topic",
        "In a terminal (ssh -t), where /help says what you can do. Without one each line of"
        " stdin is said, and what others say comes as lines with their names in front.",
        (Argument("topic", "TOPIC", required=True),),
        (
            Flag("nick", "-n --nick", parse_nick, "be shown as USER~NAME", "NAME"),
            Flag(
                "lines",
                "-l --lines",
                whole_number(0, MAX_LINES),
                f"how many past lines come first (default {DEFAULT_LINES}; 0 without a terminal)",
                "N",
            ),
            Flag(
                "keep",
                "--keep",
                parse_size,
                "keep so much of what is said for those who come (default 64KiB)",
                "SIZE",
            ),
            Flag("linger", "--linger", parse_linger, "keep it so long after the last", "DUR"),
            Flag("plain", "--no-color", boolean, "use no colours"),
            Flag("json", "--json", boolean, "write JSON lines, also of who comes and goes"),
            *SHARING,
        ),
    ),
)
"""The command, for `pipe.language.requests.COMMANDS`."""
