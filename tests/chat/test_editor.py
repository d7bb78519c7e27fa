"""The line in a terminal: editing, pastes, and keys that mean harm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pipe.chat.completion import complete
from pipe.chat.editor import MAX_PASTED_LINES, MAX_TYPED, Editor

if TYPE_CHECKING:
    from pipe.chat.completion import Completion

CONTROL = re.compile(r"\x1b\[[0-9]*[ABCDKHJ]|\x1b\[\?2004[hl]|[\r\n\a\b]")
"""All that moves a cursor and may be written."""


class Person:
    """Whoever types."""

    def __init__(self, width: int = 80) -> None:
        self.said: list[list[str]] = []
        self.events: list[str] = []
        self.editor = Editor(self, width)

    def types(self, *keys: str) -> Person:
        """Press keys."""
        for key in keys:
            self.editor.feed(key.encode())
        return self

    def entered(self, lines: list[str]) -> None:
        """Keep it."""
        self.said.append(lines)

    def completed(self, line: str, position: int) -> Completion | None:
        """Two are there."""
        return complete(line, position, ["bob", "carol"])

    def refused(self, text: str) -> None:
        """Keep it."""
        self.events.append(text)

    def interrupted(self) -> None:
        """Keep it."""
        self.events.append("interrupted")

    def ended(self) -> None:
        """Keep it."""
        self.events.append("ended")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("hello", "hello"),
        ("helo\x1b[Dl", "hello"),
        ("ello\x01h", "hello"),
        ("hellooo\x7f\x7f", "hello"),
        ("bad\x15hello", "hello"),
        ("hello bad word\x17\x17\x7f", "hello"),
        ("two\x1bb\x1b[1;5Dhello \x0b", "hello "),
        ("hello \x01\x1b[1;5C!", "hello! "),
        ("hello\x1b[15~\x1b[99~\x1b[1;2P!", "hello!"),
        ("oh\x03hello", "hello"),
        ("c\thi", "carol: hi"),
        ("\x00\x0ehello\u200b!\u202e", "hello!"),
        ("hello\x0c", "hello"),
    ],
)
def test_editing(keys: str, said: str) -> None:
    """The keys that people know; unknown ones and what is invisible put nothing into the line."""
    assert Person().types(keys, "\r").said == [[said]]


def test_lines_come_back() -> None:
    """The arrow up fetches what was said before."""
    assert Person().types("one\r", "two\r", "\x1b[A\x1b[A\r").said == [["one"], ["two"], ["one"]]


def test_nothing_is_said_with_no_words() -> None:
    """Enter alone says nothing."""
    assert not Person().types("\r", "  \r").said


def test_control_c_and_control_d() -> None:
    """On an empty line they leave; otherwise one clears it, and the other takes a character."""
    person = Person().types("x\x03", "x\x01\x04", "\x03", "\x04")

    assert person.events == ["interrupted", "ended"]


def test_paste_waits_for_enter_and_is_said_at_once() -> None:
    """Its lines are one message."""
    person = Person().types("see: \x1b[200~one\r\n\r\n\ttwo\x1b[A\r\x1b[201~")
    assert not person.said
    assert person.types("\r").said == [["see: one", "    two[A"]]


@pytest.mark.parametrize("text", ["x\n" * (MAX_PASTED_LINES + 1), "x" * (MAX_TYPED + 1)])
def test_paste_that_is_too_much(text: str) -> None:
    """It is refused as a whole, with a word on what to do instead."""
    person = Person().types(f"\x1b[200~{text}\x1b[201~\r")

    assert not person.said
    assert "send a file" in person.events[0]


def test_long_line_stops_growing() -> None:
    """So do its drawings."""
    person = Person().types(*["x" * 1000] * 20, "\r")

    assert person.said == [["x" * MAX_TYPED]]


@given(keys=st.lists(st.text(max_size=30) | st.binary(max_size=30), max_size=20), data=st.data())
def test_any_keys(keys: list[str | bytes], data: st.DataObject) -> None:
    """No input breaks it, or makes it write what is not its own."""
    person = Person()
    for key in keys:
        person.editor.feed(key.encode("utf-8", "replace") if isinstance(key, str) else key)
        if data.draw(st.booleans()):
            person.editor.resize(data.draw(st.integers(20, 500)))
        if data.draw(st.booleans()):
            person.editor.show("somebody: said something")
    person.editor.close()

    drawn = person.editor.take().decode()
    assert CONTROL.sub("", drawn).isprintable()
    assert drawn.endswith("\r\x1b[K\x1b[?2004l")
    assert person.editor.size == 0


def test_what_is_shown_stands_above_what_is_typed() -> None:
    """The line is wiped away first, and drawn again below."""
    person = Person().types("word")
    person.editor.take()
    person.editor.show("bob: hi")

    assert person.editor.take().endswith(b"\r\x1b[Kbob: hi\r\n> word")
