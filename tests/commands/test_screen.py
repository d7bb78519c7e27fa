"""An answer in a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from pipe.commands.screen import Screen, redraw

sizes = some.integers(-5, 3000)


def test_answer_replaces_the_one_before() -> None:
    """It begins at the top, clears each line's rest, and all that is below."""
    assert redraw("one\ntwo\n", Screen(80, 24)) == "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J"


def test_long_lines_are_cut() -> None:
    """Otherwise they would take two rows."""
    assert redraw("abcdef\n", Screen(4, 24)) == "\x1b[Habcd\x1b[K\n\x1b[J"


def test_many_lines_are_counted() -> None:
    """What has no room is told."""
    assert redraw("a\nb\nc\nd\n", Screen(80, 4)) == (
        "\x1b[Ha\x1b[K\nb\x1b[K\n... 2 more lines\x1b[K\n\x1b[J"
    )


@given(some.lists(some.text("abc ", max_size=200), max_size=200), sizes, sizes)
def test_nothing_scrolls(lines: list[str], columns: int, rows: int) -> None:
    """Whatever size a client names, there are fewer lines than rows, if there is a second row."""
    drawn = redraw("".join(f"{line}\n" for line in lines), Screen(columns, rows))

    assert drawn.count("\n") < max(2, rows if rows > 0 else 24)
