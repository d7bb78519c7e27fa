"""What a terminal is drawn: nothing beyond its width, nothing of others that moves a cursor."""

from __future__ import annotations

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pipe.chat.events import Event, Kind, json_line, note, sentence
from pipe.chat.paint import (
    DEFAULT_WIDTH,
    MAX_WIDTH,
    MIN_WIDTH,
    columns_of,
    mentions,
    paint,
    usable_width,
    wrap,
)
from pipe.language.names import escape

STYLE = re.compile("\x1b\\[[0-9]+m")
EVENTS = st.builds(
    Event,
    st.sampled_from(Kind),
    st.sampled_from(["al", "carol-the-user-with-a-long-name1"]),
    st.sampled_from(["al", "al~x", "carol-the-user-with-a-long-name1~and-a-long-nick0"]),
    st.text(max_size=200).map(escape),
)
WIDTHS = st.integers(-5, 10**9).map(usable_width) | st.integers(MIN_WIDTH - 1, 60)


@given(event=EVENTS, width=WIDTHS, colours=st.booleans(), mentioned=st.booleans())
def test_no_row_is_wider_than_the_terminal(
    event: Event, width: int, colours: bool, mentioned: bool
) -> None:
    """Whatever is said, by whoever, at any width."""
    drawn = paint(event, width, colours=colours, mentioned=mentioned)

    for row in STYLE.sub("", drawn).split("\n"):
        assert columns_of(row) <= width


@given(text=st.text(max_size=200), width=WIDTHS, mentioned=st.booleans())
def test_others_text_moves_nothing(text: str, width: int, mentioned: bool) -> None:
    """All that is not printable is escaped; what is left are our own styles, each of them ended."""
    drawn = paint(Event(Kind.SAID, "al", "al", text), width, colours=True, mentioned=mentioned)

    assert STYLE.sub("", drawn).replace("\n", "").isprintable()
    for row in drawn.split("\n"):
        assert "\x1b" not in row or row.endswith("\x1b[0m") or row.rfind("\x1b[0m") > 0


@given(event=EVENTS, width=WIDTHS)
def test_nothing_is_lost_by_wrapping(event: Event, width: int) -> None:
    """The rows together have all characters but spaces, in order."""
    drawn = paint(event, width, colours=False)

    assert drawn.replace("\n", "").replace(" ", "") == sentence(event).replace(" ", "")


def test_no_colours_means_no_escapes() -> None:
    """Neither for names nor for mentions."""
    for kind in Kind:
        assert "\x1b" not in paint(Event(kind, "al", "al", "hi"), 79, colours=False, mentioned=True)


def test_words_stay_whole() -> None:
    """Rows end at spaces, and go on indented."""
    assert wrap("al: one two three", 12) == ["al: one two", "  three"]
    assert wrap("al: " + "x" * 30, 20) == ["al:", "  " + "x" * 18, "  " + "x" * 12]
    assert wrap("漢字漢字漢字", 5) == ["漢字", "  漢", "  字", "  漢", "  字"]


@pytest.mark.parametrize(
    ("columns", "width"),
    [(0, DEFAULT_WIDTH), (-1, DEFAULT_WIDTH), (1, MIN_WIDTH), (10**9, MAX_WIDTH), (80, 80)],
)
def test_width_of_a_terminal_that_lies(columns: int, width: int) -> None:
    """A width is used only within bounds; the last column stays free."""
    assert usable_width(columns) == width - 1


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("alice: look", True),
        ("ask ALICE?", True),
        ("ask al!", True),
        ("malice", False),
        ("alice-two", False),
        ("also", False),
        ("", False),
    ],
)
def test_mentions(said: str, meant: bool) -> None:
    """Whole words are, in any case; the nick too."""
    assert mentions(Event(Kind.SAID, "bob", "bob", said), "alice", "al") is meant


def test_nobody_mentions_themselves() -> None:
    """Nor does a note of the server's."""
    assert not mentions(Event(Kind.SAID, "alice", "alice", "alice"), "alice", "")
    assert not mentions(note("alice"), "alice", "")


def test_json_has_the_text_as_it_came() -> None:
    """In ASCII, so that it moves nothing either."""
    line = json_line(Event(Kind.SAID, "al", "al~x", "a\x1b[2J\\ü\n"))

    assert line == (
        r'{"type": "message", "user": "al", "name": "al~x", "text": "a\u001b[2J\\\u00fc\n"}' + "\n"
    )
