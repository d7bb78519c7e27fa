"""Bodies of many lines, as shippers send them."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import UsageError
from pipe.events.logs.batches import (
    JSON_TYPE,
    LINE_TYPES,
    MAX_BATCH_BYTES,
    MAX_BATCH_LINES,
    TooMuch,
    split,
    unpack,
)
from pipe.events.logs.lines import MAX_LINE_BYTES

from .test_lines import OBJECTS

LINES = "application/x-ndjson"


def lines(kind: str, body: bytes, *, otlp: bool = False) -> list[bytes | None]:
    """What is in a body."""
    return [line for line in split(kind, body, otlp=otlp) if line != b""]


def read(kind: str, body: bytes) -> list[Any]:
    """The same as values; None for what is no line."""
    found = lines(kind, body)
    assert all(line is None or (line.count(b"\n") == 1 and line[-1:] == b"\n") for line in found)
    return [line and json.loads(line) for line in found]


@given(st.lists(OBJECTS, max_size=5), st.sampled_from([None, 1]))
def test_every_form_has_the_same_lines(
    objects: list[dict[str, object]], indent: int | None
) -> None:
    """Lines, an array and objects one after the other mean the same, however they are laid out."""
    texts = [json.dumps(one, indent=indent) for one in objects]
    expected = json.loads(json.dumps(objects))
    assert read(JSON_TYPE, json.dumps(objects, indent=indent).encode()) == expected
    assert read(JSON_TYPE, "\n".join(texts).encode()) == expected
    if not indent:
        for kind in LINE_TYPES:
            assert read(kind, "\n\n".join([*texts, ""]).encode()) == expected


def test_what_is_no_line_is_left_out() -> None:
    """What is no object, or too long, is counted; the lines beside it are there."""
    long = b'{"a":"' + b"x" * MAX_LINE_BYTES + b'"}'
    assert read(LINES, b'{"a":1}\nx\n[]\n{"b":2}\r\n' + long + b'\n \n{"c":3}') == [
        {"a": 1},
        None,
        None,
        {"b": 2},
        None,
        {"c": 3},
    ]
    assert read(JSON_TYPE, b'[{"a":1}, 2, "x", [[]], {"b":2}]') == [
        {"a": 1},
        None,
        None,
        None,
        {"b": 2},
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'[{"a":1}', "no ','"),
        (b'[{"a":1},]', "no JSON"),
        (b'[{"a":1} {"b":2}]', "no ','"),
        (b"[] []", "something follows"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a":' * 10_000, "no JSON"),
        (b'["' + b"x" * MAX_LINE_BYTES + b'"]', "longer than"),
        (b'{"a":NaN}', "no JSON"),
        (b'"\xff"', "not in UTF-8"),
        (b'{"resourceLogs":[{"resource":{},"resource":{}}]}', "comes once"),
        (b'{"resourceLogs":[{"scopeLogs":[],"resource":{}}]}', "before its records"),
        (b"[" + b" " * 100_000 + b"]", "nothing but space"),
        (b'{"resourceLogs":5}', "no '['"),
        (b'{"resourceLogs":[],5:6}', "no text"),
    ],
)
def test_what_cannot_be_read(body: bytes, text: str) -> None:
    """A body that is broken is refused in words that say where."""
    with pytest.raises(UsageError, match=re.escape(text)) as caught:
        lines(JSON_TYPE, body)
    assert caught.value.message.isprintable()


def test_too_many_lines() -> None:
    """There is a bound to lines, whatever the form."""
    for kind, body in ((LINES, b"{}\n" * 60_000), (JSON_TYPE, b"{}" * 60_000)):
        found: list[bytes | None] = []
        with pytest.raises(TooMuch):
            found.extend(line for line in split(kind, body) if line != b"")
        assert len(found) == MAX_BATCH_LINES


def test_nothing_but_newlines() -> None:
    """A body of newlines has no lines, and whoever reads it is asked often whether to go on."""
    body = b"\n" * MAX_BATCH_BYTES
    assert lines(LINES, body) == []
    assert sum(1 for _ in split(LINES, body)) >= MAX_BATCH_BYTES // (64 * 1024)


OTLP = {
    "resourceLogs": [
        {
            "resource": {
                "attributes": [
                    {"key": "service.name", "value": {"stringValue": "my.service"}},
                    {"key": "host", "value": {"stringValue": "h1"}},
                ]
            },
            "scopeLogs": [
                {
                    "scope": {"name": "my.library", "version": "1.0.0"},
                    "logRecords": [
                        {
                            "timeUnixNano": "1544712660300000000",
                            "observedTimeUnixNano": "1544712660300000001",
                            "severityNumber": 10,
                            "severityText": "Information",
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "body": {"stringValue": "Example log record"},
                            "attributes": [
                                {"key": "user", "value": {"stringValue": "alice"}},
                                {"key": "level", "value": {"stringValue": "not this"}},
                                {"key": "flag", "value": {"boolValue": True}},
                                {"key": "count", "value": {"intValue": "10"}},
                                {"key": "ratio", "value": {"doubleValue": 637.704}},
                                {"key": "raw", "value": {"bytesValue": "aGk="}},
                                {
                                    "key": "list",
                                    "value": {"arrayValue": {"values": [{"stringValue": "many"}]}},
                                },
                                {
                                    "key": "map",
                                    "value": {
                                        "kvlistValue": {
                                            "values": [{"key": "k", "value": {"stringValue": "v"}}]
                                        }
                                    },
                                },
                            ],
                        },
                        {"severityText": "Error", "body": {"intValue": 5}},
                        "no record",
                        {"timeUnixNano": "soon"},
                        {"timeUnixNano": 10**30},
                    ],
                }
            ],
            "schemaUrl": "",
        }
    ]
}
"""After the example in opentelemetry-proto, with values of every type."""


def test_otlp() -> None:
    """Records of OpenTelemetry become lines with the names of slog, and whose they are is exact."""
    first, second, *others = read(JSON_TYPE, json.dumps(OTLP).encode())
    assert first == {
        "time": "2018-12-13T14:51:00.300Z",
        "level": "INFO",
        "msg": "Example log record",
        "service": "my.service",
        "host": "h1",
        "user": "alice",
        "flag": True,
        "count": 10,
        "ratio": 637.704,
        "raw": "hi",
        "list": ["many"],
        "map": {"k": "v"},
        "trace_id": "5B8EFFF798038103D269B633813FC60C",
        "span_id": "EEE19B7EC3C1B174",
    }
    assert second == {
        "time": None,
        "level": "Error",
        "msg": 5,
        "service": "my.service",
        "host": "h1",
    }
    assert others == [None, None, None]


def test_otlp_that_is_empty() -> None:
    """Where only OTLP comes, an empty object is an empty batch."""
    assert lines(JSON_TYPE, b"{}", otlp=True) == []
    assert lines(JSON_TYPE, b'{"other":1,"resourceLogs":[]}', otlp=True) == []
    assert read(JSON_TYPE, b"{}") == [{}]


@given(st.lists(st.binary(max_size=200_000), max_size=3))
def test_gzip(members: list[bytes]) -> None:
    """What was packed, in one member or several, comes out again."""
    assert b"".join(unpack(b"".join(map(gzip.compress, members)))) == b"".join(members)


def test_gzip_bomb() -> None:
    """Of a bomb no more is unpacked than a body may have, some of it at a time."""
    bomb = gzip.compress(b"\n" * (64 << 20))
    pieces: list[int] = []
    with pytest.raises(TooMuch):
        pieces.extend(map(len, unpack(bomb)))
    assert sum(pieces) <= MAX_BATCH_BYTES
    assert max(pieces) <= 64 * 1024


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"plain text",
        gzip.compress(b"x" * 100, mtime=0)[:-9],
        gzip.compress(b"x", mtime=0) + b"junk",
    ],
)
def test_what_is_no_gzip(data: bytes) -> None:
    """What is no gzip, or not all of it, is refused."""
    with pytest.raises(UsageError, match="gzip"):
        b"".join(unpack(data))
