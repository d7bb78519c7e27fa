"""Our terminal, lent to a command that a server draws in: a chat, or a list that goes on.

It is in raw mode meanwhile, as with ``ssh -t``: each key goes to the server, which knows what
it means, Ctrl-C too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import termios
import tty
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipe.client.stdio import STDIN, STDOUT
from pipe.language.chat_requests import Chat
from pipe.language.progress_requests import Stat, Top

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.language.requests import Request

INTERRUPT = b"\x03"

PATIENCE = 3
"""So many times Ctrl-C without any answer end it here: the server may be gone."""


class Size(NamedTuple):
    """Of the terminal, in characters."""

    columns: int
    rows: int


class Drawn(Protocol):
    """Who draws in it."""

    def resize(self, size: tuple[int, int]) -> None:
        """It has another size: columns, rows."""


def is_drawn(request: Request) -> bool:
    """Whether a server draws the answer of a command, and we have a terminal to draw in."""
    if not isinstance(request, (Chat, Stat, Top)) or request.json:
        return False
    goes_on = not isinstance(request, Stat) or request.follow
    return goes_on and os.isatty(STDIN) and os.isatty(STDOUT)


def wishes() -> dict[str, Any]:
    """Return what `asyncssh` is to be told of our terminal."""
    colours = {"env": {"NO_COLOR": "1"}} if os.environ.get("NO_COLOR") else {}
    return {"term_type": os.environ.get("TERM") or "dumb", "term_size": size(), **colours}


def size() -> Size:
    """Return how large it is now."""
    return Size(*shutil.get_terminal_size())


@contextlib.contextmanager
def raw(drawn: Drawn) -> Iterator[None]:
    """Have it in raw mode, and tell each new size to who draws in it."""
    loop = asyncio.get_running_loop()
    modes = termios.tcgetattr(STDIN)
    loop.add_signal_handler(signal.SIGWINCH, lambda: drawn.resize(size()))
    try:
        tty.setraw(STDIN)
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        termios.tcsetattr(STDIN, termios.TCSADRAIN, modes)


class Patience:
    """How often Ctrl-C was pressed since the server has last said something."""

    def __init__(self) -> None:
        self._pressed = 0

    def pressed(self, keys: bytes) -> bool:
        """Count, and return whether somebody wants to leave without the server's answer."""
        self._pressed += keys.count(INTERRUPT)
        return self._pressed >= PATIENCE

    def answered(self) -> None:
        """The server is there."""
        self._pressed = 0
