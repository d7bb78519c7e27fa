"""How commands write sizes, spans of time and columns."""

from __future__ import annotations

import pytest

from pipe.commands.layout import count, date, json_lines, labelled, listed, size, span, table


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**3, "1.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    """A size has a unit that keeps it short."""
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3660, "1h01m"), (90000, "1d01h")],
)
def test_spans(seconds: float, text: str) -> None:
    """A span has the one or two units that matter."""
    assert span(seconds) == text


def test_words() -> None:
    """Numbers, lists, dates and tables read as a person would write them."""
    assert [count(number, "byte") for number in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]
    assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]
    assert [date(None, "never"), date(0, "")] == ["never", "1970-01-01 00:00 UTC"]
    assert table(("A", "BB"), [("long", ""), ("x", "y")]) == "A     BB\nlong\nx     y\n"
    assert labelled([("a", "b"), ("", "c")]) == "a        b\n         c\n"
    assert json_lines([]) == ""
    assert json_lines([{"a": 1}, {"a": None}]) == '{"a": 1}\n{"a": null}\n'


def test_wide_table_is_folded() -> None:
    """Where a table does not fit, its last columns go to a second line, if there is anything."""
    rows = [("x" * 50, "y" * 20, ""), ("x", "y", "z" * 20)]
    header = ("A", "B", "C")

    assert table(header, [("x", "y", "z")], fold=2) == "A  B  C\nx  y  z\n"
    assert table(header, rows).count("\n") == 3
    assert table(header, rows, fold=2) == (
        f"A{' ' * 51}B\n  C\n{rows[0][0]}  {rows[0][1]}\nx{' ' * 51}y\n  {rows[1][2]}\n"
    )
    assert table(header, rows, fold=1) == (
        f"A\n  B{' ' * 21}C\n{rows[0][0]}\n  {rows[0][1]}\nx\n  y{' ' * 21}{rows[1][2]}\n"
    )
