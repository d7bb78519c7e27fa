"""How a stream's progress is drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipe.commands.layout import WIDTH
from pipe.commands.progress_line import Figures, clock, progress_line

amounts = some.integers(0, 2**70)
names = some.text("abcdefgh-_", min_size=1, max_size=32)


def test_line_has_amount_time_rate_and_readers() -> None:
    """It begins as pv's does, and tells who is there."""
    line = progress_line(Figures(1536 * 1024, 2048.0, 65.4, there="2 readers"))

    assert line == "  1.5 MiB 0:01:05 [  2.0 KiB/s] 2 readers"


def test_size_adds_percent_and_time_left() -> None:
    """The time left is what the rest takes at the pace so far."""
    line = progress_line(Figures(250, 9.0, 10.0, size=1000))

    assert line == "    250 B 0:00:10 [      9 B/s]  25% ETA 0:00:30"


def test_who_goes_on_has_done_what_came_before() -> None:
    """Per cent are of the whole stream; the time left is what the rest takes at this pace."""
    line = progress_line(Figures(250, 9.0, 10.0, size=1000, before=500))

    assert line == "    250 B 0:00:10 [      9 B/s]  75% ETA 0:00:10"


@pytest.mark.parametrize(("moved", "size", "percent"), [(0, 0, 100), (0, 9, 0), (12, 9, 133)])
def test_size_that_says_nothing_of_the_time(moved: int, size: int, percent: int) -> None:
    """Nothing to send, nothing sent, and more than was said: only per cent."""
    line = progress_line(Figures(moved, 0.0, 1.0, size=size))

    assert line.endswith(f"{percent}%")


@pytest.mark.parametrize(
    ("figures", "state"),
    [
        (Figures(0, 0, 0, missing=2), "waits for 2 readers"),
        (Figures(0, 0, 0, held_up=True), "held up by a reader"),
        (Figures(0, 0, 0, held_up=True, holders=("bob",)), "held up by bob"),
        (Figures(0, 0, 0, held_up=True, holders=("a", "b", "c", "d")), "by a, b, c and 1 more"),
        (Figures(0, 0, 0, held_up=True, drains=True, holders=("bob",)), "waits for bob to finish"),
        (Figures(0, 0, 0, own=True), "held up by this reader"),
    ],
)
def test_who_holds_it_up(figures: Figures, state: str) -> None:
    """The line ends with what the stream waits for."""
    assert progress_line(figures).endswith(state)


def test_pipe_tells_what_it_read() -> None:
    """A pipe has two directions."""
    assert progress_line(Figures(0, 0, 0, read=2048, there="1 reader")).endswith(
        "2.0 KiB read, 1 reader"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0:00:00"), (3599, "0:59:59"), (86399, "23:59:59"), (90061, "1:01:01:01")],
)
def test_clock(seconds: float, text: str) -> None:
    """Hours, minutes, seconds, and days once there are any."""
    assert clock(seconds) == text


@given(amounts, some.floats(0, 1e18), some.floats(0, 1e9), amounts | some.none(), names)
def test_line_fits_a_terminal(
    moved: int, rate: float, seconds: float, size: int | None, name: str
) -> None:
    """Whatever the figures, it is one line that leaves the last column free."""
    line = progress_line(Figures(moved, rate, seconds, size, 7, "9 readers", 0, True, (name,) * 9))

    assert len(line) < WIDTH
    assert line.isprintable()
