"""A line that is edited in a terminal, below what is shown: asyncssh's line editor, fed by us.

asyncssh offers it only for channels on which it decodes all data itself.  It knows nothing of SSH,
though: it takes what is typed, and writes what moves a cursor.  We keep from it what it cannot
bear (unknown keys, pastes, characters that are invisible) and add a few keys.

`LineEditor` overrides names that are asyncssh's own, so like the lane it belongs to the range of
versions that `pyproject.toml` allows.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Protocol, cast

from asyncssh.editor import SSHLineEditor

from pipe.chat.keys import Key, Keys, Paste

if TYPE_CHECKING:
    from asyncssh import SSHServerChannel, SSHServerSession

    from pipe.chat.completion import Completion

MAX_TYPED = 2000
"""Characters of a line: some screens' worth.  Each key may draw all of them, in a millisecond."""

MAX_PASTED_LINES = 20
"""Lines that are pasted, and said, at once."""

HISTORY = 50
"""Lines that can be fetched back."""

LINE_END = "␊"
"""Stands for the end of a pasted line until all of them are said."""

PROMPT = "> "

_PASTES_ON, _PASTES_OFF = "\x1b[?2004h", "\x1b[?2004l"
"""Bracketed paste mode, as xterm introduced it."""

_CLEAR_LINE, _CLEAR_SCREEN = "\r\x1b[K", "\x1b[H\x1b[2J"

_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]*")

_SAME = {
    "\x1b[1;5C": "\x1bf",
    "\x1b[1;3C": "\x1bf",
    "\x1b[1;5D": "\x1bb",
    "\x1b[1;3D": "\x1bb",
    "\x1b[7~": "\x1b[H",
    "\x1b[8~": "\x1b[F",
    "\x1bOH": "\x1b[H",
    "\x1bOF": "\x1b[F",
    "\x1b\x7f": "\x17",
}
"""Keys that terminals spell differently, or that mean the same."""


class Typist(Protocol):
    """Who is told what was typed.  No call may raise."""

    def entered(self, lines: list[str]) -> None:
        """One line, or several that were pasted, none of them empty."""

    def completed(self, line: str, position: int) -> Completion | None:
        """Complete what is typed so far, if there is something to complete."""

    def refused(self, text: str) -> None:
        """Something that was typed or pasted cannot be taken, for this reason."""

    def interrupted(self) -> None:
        """Ctrl-C on an empty line."""

    def ended(self) -> None:
        """Ctrl-D on an empty line."""


class LineEditor(SSHLineEditor):
    """asyncssh's editor with more keys."""

    def _build_printable(self) -> None:
        """Take what `Editor` lets through: looking at all characters takes 30 ms."""
        self._printable = _PRINTABLE

    def _word_start(self) -> int:
        head = self._line[: self._pos].rstrip(" ")
        return head.rfind(" ") + 1

    def _word_end(self) -> int:
        tail = self._line[self._pos :]
        end = tail.find(" ", len(tail) - len(tail.lstrip(" ")))
        return len(self._line) if end < 0 else self._pos + end

    def _go_to(self, position: int) -> None:
        self._update_input(0, self._start_column, position)

    def _word_left(self) -> None:
        self._go_to(self._word_start())

    def _word_right(self) -> None:
        self._go_to(self._word_end())

    def _erase_word(self) -> None:
        start = self._word_start()
        self._erased = self._line[start : self._pos]
        self._line = self._line[:start] + self._line[self._pos :]
        self._go_to(start)

    def _clear_screen(self) -> None:
        self._outbuf.append(_CLEAR_SCREEN)
        self._cursor = 0
        self._output(PROMPT)
        self._start_column = self._end_column = self._cursor
        self._draw_input()

    _keylist = (  # type: ignore[assignment]  # a tuple is typed with its length
        *SSHLineEditor._keylist,  # noqa: SLF001 - the base class's
        (_word_left, ("\x1bb",)),
        (_word_right, ("\x1bf",)),
        (_erase_word, ("\x17",)),
        (_clear_screen, ("\x0c",)),
    )


_KNOWN = frozenset(
    key
    for _, keys in LineEditor._keylist  # noqa: SLF001
    for key in keys
    if key.startswith("\x1b")
)


class Editor:
    """One client's line.

    Args:
        typist: who is told what was typed.
        width: columns of the terminal.
    """

    def __init__(self, typist: Typist, width: int) -> None:
        self._typist = typist
        self._keys = Keys()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._out: list[str] = [_PASTES_ON]
        self._size = 0
        channel, session = cast("SSHServerChannel[str]", self), cast("SSHServerSession[str]", self)
        self._line = LineEditor(channel, session, False, HISTORY, MAX_TYPED, "ansi", width)
        self._line.register_key("\t", self._complete)
        self._line.register_key("\x03", self._interrupt)
        self._line.process_output(PROMPT)

    # -- the terminal -----------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take what the terminal sends."""
        for piece in self._keys.feed(self._decode(data)):
            match piece:
                case Key(sequence):
                    sequence = _SAME.get(sequence, sequence)
                    if sequence in _KNOWN or len(sequence) == 1:
                        self._line.process_input(sequence, None)
                case Paste():
                    self._paste(piece)
                case str():
                    self._line.process_input(_typeable(piece), None)

    def _paste(self, paste: Paste) -> None:
        text = paste.text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
        lines = [_typeable(line.expandtabs(4), keys=False) for line in text.split("\n")]
        if paste.lost or len(lines) > MAX_PASTED_LINES or len(text) > MAX_TYPED:
            self._typist.refused(
                f"this is too much to paste: at most {MAX_PASTED_LINES} lines and {MAX_TYPED}"
                " characters; send a file with ssh HOST chat TOPIC < FILE"
            )
        else:
            self._line.process_input(LINE_END.join(filter(None, lines)), None)

    def resize(self, width: int) -> None:
        """Draw for another width from now on."""
        self._line.set_width(width)
        self._flush()

    def _flush(self) -> None:
        self._line.process_input("", None)  # it writes only at the end of some input

    def show(self, text: str) -> None:
        """Write rows above the line."""
        self._line.process_output(f"{_CLEAR_LINE}{text}\n{PROMPT}")

    @property
    def size(self) -> int:
        """Characters that wait for `take`."""
        return self._size

    def take(self) -> bytes:
        """Take what is to be written to the terminal."""
        text = "".join(self._out)
        self._out.clear()
        self._size = 0
        return text.encode("utf-8", "replace")

    def close(self) -> None:
        """Leave the terminal as it was found, with the cursor on an empty line."""
        self._line.set_input("", 0)
        self._flush()
        self.write(f"{_CLEAR_LINE}{_PASTES_OFF}")

    # -- asyncssh: the channel and session of its editor ------------------------------------------

    def write(self, data: str) -> None:
        """Keep what the editor writes."""
        self._out.append(data)
        self._size += len(data)

    def data_received(self, data: str, datatype: object) -> None:  # noqa: ARG002
        """Pass on a line that is complete."""
        lines = [line for line in data[:-1].split(LINE_END) if line.strip()]
        if lines:
            self._typist.entered(lines)

    def soft_eof_received(self) -> None:
        """Pass on Ctrl-D."""
        self._typist.ended()

    def signal_received(self, signal: str) -> None:  # noqa: ARG002
        """Pass on Ctrl-C."""
        self._typist.interrupted()

    def _interrupt(self, line: str, position: int) -> tuple[str, int]:  # noqa: ARG002
        return ("", 0) if line else ("INT", -1)

    def _complete(self, line: str, position: int) -> bool | tuple[str, int]:
        found = self._typist.completed(line, position)
        return (found.line, found.position) if found and not found.choices else False


def _typeable(text: str, *, keys: bool = True) -> str:
    """Leave out what is neither to be seen nor a key."""
    if text.isprintable():
        return text
    return "".join(
        one for one in text if one.isprintable() or (keys and one < " ") or one == "\x7f"
    )
