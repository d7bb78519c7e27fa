"""What a reader's browser is told of a stream can do it no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import Outcome
from pipe.web.offers import BYTES, disposition, offer_of, safe_filename, safe_type
from pipe.web.statuses import STATUSES


@pytest.mark.parametrize(
    ("offered", "shown"),
    [
        ("text/html", "text/plain; charset=utf-8"),
        ("TEXT/HTML; charset=UTF-8", "text/plain; charset=utf-8"),
        ("text/xml", "text/plain; charset=utf-8"),
        ("text/javascript", "text/plain; charset=utf-8"),
        ("image/svg+xml", BYTES),
        ("application/xhtml+xml", BYTES),
        ("application/javascript", BYTES),
        ("multipart/x-mixed-replace", BYTES),
        ("image/png", "image/png"),
        ("video/mp4; codecs=x", "video/mp4"),
        ("application/json", "application/json"),
        ("text/plain; charset=latin-1", "text/plain; charset=latin-1"),
        ("", BYTES),
        ("nonsense", BYTES),
        ("text/plain\r\nSet-Cookie: a=b", "text/plain; charset=utf-8"),
    ],
)
def test_types(offered: str, shown: str) -> None:
    """Only what a browser shows or keeps, and never runs, is passed on."""
    assert safe_type(offered) == shown


@given(st.text())
def test_any_type_is_safe(offered: str) -> None:
    """Whatever is offered, one of the safe types comes out, in one line."""
    shown = safe_type(offered)
    assert shown.isascii()
    assert shown.isprintable()
    assert "html" not in shown.partition(";")[0]
    assert "xml" not in shown.partition(";")[0]


@given(st.text())
def test_any_file_name_is_one(text: str) -> None:
    """Whatever is offered, what comes out is one name without a path, and a header of one line."""
    name = safe_filename(text)
    assert "/" not in name
    assert "\\" not in name
    assert name not in {".", ".."}
    assert len(name.encode()) <= 255
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


@given(st.text())
def test_any_header_is_read(text: str) -> None:
    """No header of an upload is too strange to be read."""
    offer_of({"Content-Type": text, "Content-Disposition": text}, None)


def test_every_outcome_has_a_status() -> None:
    """However a session ends, there is a status for it; none by HTTP moves to another process."""
    assert set(Outcome) - {Outcome.MOVED} == set(STATUSES)
