"""Durations: what is read, what is refused, and that one comes back as it was written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import UsageError
from pipe.language.durations import MAX_DURATION, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("90s", 90.0),
        ("1h30m", 5_400.0),
        ("30d", 2_592_000.0),
        ("1.5h", 5_400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("300ms", 0.3),
        ("1m1ms", 60.001),
        ("250us", 0.000_25),
        ("250\u00b5s", 0.000_25),
        ("250\u03bcs", 0.000_25),
        ("5ns", 5e-9),
        ("30m1h", 5_400.0),
        ("3650d", MAX_DURATION),
    ],
)
def test_reads_go_forms(text: str, seconds: float) -> None:
    """Go's forms are read, days too, and give exactly the nearest number of seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "missing"),
        ("-5s", "negative"),
        ("-0", "negative"),
        ("90", "needs a unit"),
        ("00", "needs a unit"),
        ("+5s", "not a duration"),
        ("s", "not a duration"),
        (".s", "not a duration"),
        ("5 s", "not a duration"),
        ("5s\n", "not a duration"),
        ("5S", "not a duration"),
        ("1h30", "not a duration"),
        ("1e3s", "not a duration"),
        ("1_0s", "not a duration"),
        ("infs", "not a duration"),
        ("\u0665s", "not a duration"),
        ("\u0665", "not a duration"),
        ("1" * 64 + "s", "not a duration"),
        ("1" * 60 + "s", "at most 3650d"),
        ("3650d1ms", "at most 3650d"),
    ],
)
def test_refuses_all_else(text: str, complaint: str) -> None:
    """What is no duration, negative, without a unit or too long is refused with the reason."""
    with pytest.raises(UsageError, match=complaint):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (1e-9, "0s"),
        (0.000_25, "250us"),
        (0.001_5, "1.5ms"),
        (0.3, "300ms"),
        (1.5, "1.5s"),
        (60.0, "1m"),
        (61.5, "1m1.5s"),
        (5_400.0, "1h30m"),
        (2_592_000.0, "30d"),
        (86_400.000_001, "1d0.000001s"),
        (MAX_DURATION, "3650d"),
    ],
)
def test_writes_the_short_form(seconds: float, text: str) -> None:
    """A duration is written in the largest units that fit, without parts that are zero."""
    assert format_duration(seconds) == text


@given(st.integers(0, int(MAX_DURATION) * 1_000_000))
def test_round_trip(microseconds: int) -> None:
    """Every whole number of microseconds up to the maximum comes back as the same float."""
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text() | st.text("0123456789.dhmsun-"))
def test_any_text_is_a_duration_or_a_usage_error(text: str) -> None:
    """No text makes anything but seconds within the bounds, or a UsageError."""
    with contextlib.suppress(UsageError):
        assert 0 <= parse_duration(text) <= MAX_DURATION
