"""What a client gets of a room: a terminal with a line to type in, or plain lines."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Protocol

from pipe.chat.editor import Editor
from pipe.chat.events import json_line, sentence
from pipe.chat.paint import BELL, paint, usable_width

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.chat.editor import Typist
    from pipe.chat.events import Event

MAX_TEXT = 2000
"""Characters of a line that a program sends; longer ones are cut into several."""


class Side(Protocol):
    """One client's."""

    def feed(self, data: bytes) -> None:
        """Take a little of what the client sends."""

    def end(self) -> None:
        """The client has sent everything."""

    def show(self, event: Event, *, mentioned: bool = False) -> None:
        """Show what has happened."""

    @property
    def size(self) -> int:
        """How much waits for `take`."""

    def take(self) -> bytes:
        """Take what is to be written."""

    def resize(self, columns: int) -> None:
        """The terminal has another width."""

    def colour(self, *, wanted: bool) -> None:
        """Use colours from now on, or none."""

    def close(self) -> None:
        """Nothing more is shown."""


class TerminalSide:
    """A terminal.

    Args:
        typist: who is told what was typed.
        columns: of the terminal, or 0 if it does not tell.
        colours: whether to use them.
    """

    def __init__(self, typist: Typist, columns: int, *, colours: bool) -> None:
        self._width = usable_width(columns)
        self._colours = colours
        self._editor = Editor(typist, self._width + 1)

    def feed(self, data: bytes) -> None:
        """Take keys."""
        self._editor.feed(data)

    def end(self) -> None:
        """A terminal ends by a key."""

    def show(self, event: Event, *, mentioned: bool = False) -> None:
        """Show it above the line, with a bell if its reader is meant."""
        if mentioned:
            self._editor.write(BELL)
        self._editor.show(paint(event, self._width, colours=self._colours, mentioned=mentioned))

    @property
    def size(self) -> int:
        """Characters."""
        return self._editor.size

    def take(self) -> bytes:
        """Take what is to be drawn."""
        return self._editor.take()

    def resize(self, columns: int) -> None:
        """Draw for another width."""
        self._width = usable_width(columns)
        self._editor.resize(self._width + 1)

    def colour(self, *, wanted: bool) -> None:
        """Change it for what comes."""
        self._colours = wanted

    def close(self) -> None:
        """Give the terminal back."""
        self._editor.close()


class LineSide:
    """Lines in and lines out, for programs; other words go beside them.

    Args:
        said: told of each line that came.
        aside: told what is no line of the room's, in words.
        as_json: whether lines are JSON, which has events of all kinds.
    """

    def __init__(
        self, said: Callable[[list[str]], None], aside: Callable[[str], None], *, as_json: bool
    ) -> None:
        self._said = said
        self._aside = aside
        self._as_json = as_json
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun = ""
        self._out: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take some lines, or parts of them."""
        self._take_lines(self._decode(data))

    def _take_lines(self, text: str) -> None:
        *lines, self._begun = (self._begun + text).split("\n")
        while len(self._begun) >= MAX_TEXT:
            lines.append(self._begun[:MAX_TEXT])
            self._begun = self._begun[MAX_TEXT:]
        for line in lines:
            self._say(line)

    def _say(self, line: str) -> None:
        line = line.removesuffix("\r")
        if line.strip():
            self._said([line])

    def end(self) -> None:
        """The last line needs no end."""
        self._take_lines(self._decode(b"", True))
        self._say(self._begun)
        self._begun = ""

    def show(self, event: Event, *, mentioned: bool = False) -> None:  # noqa: ARG002
        """Write it as a line."""
        if self._as_json:
            self._write(json_line(event))
        elif event.speech:
            self._write(f"{sentence(event)}\n")
        elif event.text and not event.name:
            self._aside(event.text)

    def _write(self, line: str) -> None:
        self._out.append(line)
        self._size += len(line)

    @property
    def size(self) -> int:
        """Characters."""
        return self._size

    def take(self) -> bytes:
        """Take whole lines."""
        text = "".join(self._out)
        self._out.clear()
        self._size = 0
        return text.encode("utf-8", "replace")

    def resize(self, columns: int) -> None:
        """There is no terminal."""

    def colour(self, *, wanted: bool) -> None:
        """There are none."""

    def close(self) -> None:
        """Lines need no goodbye."""
