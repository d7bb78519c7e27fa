"""One log line: cut, read, and safe to show."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.events.logs.lines import (
    MAX_LINE_BYTES,
    MAX_VALUE_LENGTH,
    Cutter,
    Kind,
    kind_of,
    own_line,
    read_line,
    tidy,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=5)


@given(st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line)), st.data())
def test_lines_are_the_same_however_they_were_cut(lines: list[bytes], data: st.DataObject) -> None:
    """What comes out are the lines that went in, without the empty ones, the last one too."""
    stream = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    cutter = Cutter()
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += cutter.feed(memoryview(stream)[start:stop])
    assert found + cutter.end() == [line for line in lines if line]


def test_a_long_line_is_held_only_as_far_as_it_may_be() -> None:
    """Of 10 MB a byte more than allowed is kept, and the next line is whole."""
    cutter = Cutter()
    for _ in range(160):
        assert cutter.feed(b"x" * MAX_LINE_BYTES) == []
    [line, following] = cutter.feed(b"x\n{}\n")
    assert len(line) == MAX_LINE_BYTES + 1
    assert following == b"{}"


def test_where_something_is_missing_the_line_is_dropped() -> None:
    """A line with a gap in it is dropped with its rest, and nothing else."""
    cutter = Cutter()
    assert cutter.feed(b"one\nhalf of a") == [b"one"]
    cutter.tear()
    assert cutter.feed(b"of another") == []
    assert cutter.feed(b" line\nthree\nlast") == [b"three"]
    assert cutter.end() == [b"last"]
    cutter.tear()
    assert cutter.end() == []
    assert cutter.feed(b"x\n") == [b"x"]


@given(OBJECTS, st.booleans())
def test_a_line_means_what_it_meant(fields: dict[str, object], ascii_only: bool) -> None:
    """Any object is handed on with the same meaning, and prints no control characters."""
    found = read_line(json.dumps(fields, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    assert found
    line, read = found
    assert line.endswith(b"\n")
    assert json.loads(line) == json.loads(json.dumps(read))
    assert not set(line.decode()[:-1]) & set(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x202E)))


def test_a_harmless_line_is_handed_on_as_it_came() -> None:
    """Order, space, numbers and letters of any script stay as they were."""
    raw = '{ "b":1.50 ,"a" : "größer\\u0041 日本"}'.encode()
    assert read_line(raw) == (raw + b"\n", {"b": "1.50", "a": "größerA 日本"})


@pytest.mark.parametrize(
    "raw",
    [
        b"plain text",
        b"[1]",
        b'"text"',
        b"12",
        b"{",
        b'{"a":1} x',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"user":"al\xffice"}',
        b'{"user":"alice\x1b[2J"}',
        '{"user":"alice"}'.encode("utf-16"),
        b"[" * MAX_LINE_BYTES,
        b'{"a":' * 10_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_object(raw: bytes) -> None:
    """What is no JSON object in UTF-8 is none, however deep or long it is."""
    assert read_line(raw) is None


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"user": "alice"}, Kind.USER),
        ({"user": "alice", "hidden": False}, Kind.USER),
        ({"user": "alice", "hidden": "no"}, Kind.USER),
        ({"user": "alice", "hidden": True}, Kind.HIDDEN),
        ({}, Kind.NOBODY),
        ({"user": ""}, Kind.NOBODY),
        ({"user": 5}, Kind.NOBODY),
        ({"user": None}, Kind.NOBODY),
        ({"user": ["alice"]}, Kind.NOBODY),
        ({"User": "alice", "user_id": "alice", "USER": "alice"}, Kind.NOBODY),
    ],
)
def test_whose_a_line_is(fields: dict[str, object], kind: Kind) -> None:
    """Only text under the exact name says whose a line is, and only true hides it."""
    assert kind_of(fields) is kind


def test_a_terminal_obeys_nothing_in_a_line() -> None:
    """Control characters of eight bits, and those that turn or hide text, are escaped."""
    text = '{"a":"\x9b2J\x7f\u202eb\u200b\ufeff\U000e0041c",\t"d":1\r}'
    tidied = tidy(text)
    assert tidied == ('{"a":"\\u009b2J\\u007f\\u202eb\\u200b\\ufeff\\udb40\\udc41c", "d":1 }')
    assert json.loads(tidied) == json.loads(text)


def test_own_lines() -> None:
    """A line of the server's own has the names of slog, in one line, and no value is long."""
    line = own_line(1.5, "WARN", "oh\nno", {"user": "alice", "x": "\x1b\udc80" * 2000, "n": None})
    assert line.count(b"\n") == 1
    fields = json.loads(line)
    assert list(fields) == ["time", "level", "msg", "service", "user", "x", "n"]
    assert fields["time"] == "1970-01-01T00:00:01.500Z"
    assert fields["msg"] == "oh\nno"
    assert len(fields["x"]) == MAX_VALUE_LENGTH + 1
