"""From fields to lines, whatever the fields hold."""

from __future__ import annotations

import datetime
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipe_log._lines import LINE_LIMIT, encode, timestamp, with_gap

if TYPE_CHECKING:
    from collections.abc import Callable


class Hostile:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def circle() -> list[Any]:
    """A list that holds itself."""
    circle: list[Any] = []
    circle.append(circle)
    return circle


def deep() -> list[Any]:
    """Lists in lists, deeper than Python counts."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


ODD = st.sampled_from(
    [math.nan, math.inf, b"\xff", Hostile(), {1, 2}, {(1, 2): 3}, datetime.date.min]
) | st.builds(lambda: 10**5000)
TEXT = st.text(st.characters(exclude_categories=()))
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary() | ODD,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT | st.integers(), inner),
    max_leaves=8,
)


def refuse(constant: str) -> None:
    """JSON has no NaN, whatever Python reads."""
    raise AssertionError(constant)


@given(st.dictionaries(TEXT, VALUE, min_size=1))
def test_any_fields_make_one_line_of_json(fields: dict[str, Any]) -> None:
    """Whatever a service logs, one line of UTF-8 comes of it, and it is JSON."""
    line = encode(fields)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    said = json.loads(line.decode(), parse_constant=refuse)
    assert len(said) == len({name.encode("utf-8", "replace") for name in fields})


@given(
    st.dictionaries(st.text(max_size=2), st.integers(1, 200_000), min_size=1, max_size=4),
    st.sampled_from(["x", "é", "\n", '"', "\ud800", "🎈"]),
)
def test_long_line_is_cut_and_says_so(lengths: dict[str, int], letter: str) -> None:
    """A line has at most 64 KiB, also when it must tell of a gap, and says that it was cut."""
    fields = {"user": "alice", **{name: letter * length for name, length in lengths.items()}}
    line = with_gap(encode(fields), 10**12)

    assert len(line) <= LINE_LIMIT
    said = json.loads(line)
    assert said["user"] == "alice"
    kept = all(said.get(name) == fields[name].replace("\ud800", "?") for name in fields)
    assert kept == ("cut" not in said)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(lambda: {"k" * 100 + str(i): i for i in range(10_000)}, id="many fields"),
        pytest.param(lambda: {"msg": ["x"] * 100_000}, id="a long list"),
        pytest.param(lambda: {"msg": {"x" * 100_000: 1}}, id="a long name inside"),
        pytest.param(lambda: {"x" * 100_000: 1}, id="a long name"),
    ],
)
def test_what_is_long_otherwise_is_cut_too(value: Callable[[], dict[str, Any]]) -> None:
    """Lines are cut that are long for another reason than a long text."""
    line = encode({"time": "now", "msg": "hello", **value()})

    assert len(line) < LINE_LIMIT
    assert json.loads(line)["time"] == "now"
    assert json.loads(line)["cut"] is True


def test_user_is_never_cut() -> None:
    """A user that is too long is left out: the start of a name may be somebody else's."""
    assert "user" not in json.loads(encode({"user": "alice" * 100_000, "msg": "hello"}))


@pytest.mark.parametrize("value", [circle, deep, Hostile, lambda: math.nan])
def test_what_is_no_json_becomes_text(value: Callable[[], Any]) -> None:
    """One bad value costs its own field its form, and the others nothing."""
    said = json.loads(encode({"bad": value(), "good": [1, {"a": None}]}))

    assert isinstance(said["bad"], str)
    assert said["good"] == [1, {"a": None}]


def test_gap_is_told_by_the_line_after_it() -> None:
    """`dropped` joins the fields of a line that is made already."""
    assert json.loads(with_gap(encode({"msg": "hello"}), 3)) == {"dropped": 3, "msg": "hello"}


@given(st.floats(-(2**33), 2**35))
def test_timestamp_is_rfc_3339(seconds: float) -> None:
    """Any moment is written so that others read the same moment."""
    read = datetime.datetime.fromisoformat(timestamp(seconds))

    assert abs((read - datetime.datetime.fromtimestamp(seconds, datetime.UTC)).total_seconds()) < (
        2e-6
    )
