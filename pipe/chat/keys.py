"""What a terminal sends, cut into text, keys and pastes.

A key that is no character comes as an escape sequence (ECMA-48, section 5.4).  A terminal in
bracketed paste mode puts what is pasted between two of them.  Neither may be cut anywhere, nor go
on for ever, so only a few characters wait for their end, and a paste has a bound.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SEQUENCE = 32
"""Characters of an escape sequence; longer ones are none."""

MAX_PASTE = 8192
"""Characters of a paste that are kept: more than can be said at once."""

_BEGIN, _END = "\x1b[200~", "\x1b[201~"
_TOKEN = re.compile(
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|(?=[^ -~]))"  # what follows cannot belong to it
    r"|\x1bO(?:[ -~]|(?=[^ -~]))"
    r"|\x1b[ -NP-Z\\-~\x7f]"  # a key with Alt
    r"|\x1b(?=[^ -~])"
    r"|[^\x1b]+",
    re.DOTALL,
)


class Key(NamedTuple):
    """An escape sequence, whole."""

    sequence: str


class Paste(NamedTuple):
    """What was pasted, and how many characters more there were."""

    text: str
    lost: int


class Keys:
    """Takes what comes, piece by piece."""

    def __init__(self) -> None:
        self._rest = ""
        self._paste: list[str] | None = None  # while one is under way
        self._kept = 0
        self._lost = 0

    def feed(self, text: str) -> Iterator[str | Key | Paste]:
        """Yield what is complete."""
        text, self._rest = self._rest + text, ""
        while text:
            if self._paste is not None:
                text, paste = self._take_paste(text)
                if paste:
                    yield paste
                continue
            found = _TOKEN.match(text)
            if found is None:
                if len(text) <= MAX_SEQUENCE:
                    self._rest = text
                    return
                text = text[MAX_SEQUENCE:]
                continue
            token, text = found[0], text[found.end() :]
            if token == _BEGIN:
                self._paste, self._kept, self._lost = [], 0, 0
            elif token != _END:
                yield Key(token) if token[0] == "\x1b" else token

    def _take_paste(self, text: str) -> tuple[str, Paste | None]:
        """Take what belongs to the paste; return what follows, and the paste if it is over."""
        content, end, after = text.partition(_END)
        if not end:  # perhaps its beginning is there
            at = content.rfind("\x1b", -len(_END) + 1)
            if at >= 0 and _END.startswith(content[at:]):
                content, self._rest = content[:at], content[at:]
        room = MAX_PASTE - self._kept
        if self._paste is not None and room > 0 and content:
            self._paste.append(content[:room])
        self._kept += min(room, len(content))
        self._lost += max(0, len(content) - room)
        if not end:
            return "", None
        paste = Paste("".join(self._paste or ()), self._lost)
        self._paste = None
        return after, paste
