"""Whose word counts about where a client is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from pipe.limits.bounds import parse_networks
from pipe.limits.sources import TrustedSources
from pipe.web.forwarded import Client, find_client

PROXIES = TrustedSources(parse_networks("10.0.0.0/8,::1"))


@pytest.mark.parametrize(
    ("headers", "address", "secure"),
    [
        ({}, "10.0.0.1", False),
        ({"X-Forwarded-For": "203.0.113.9"}, "203.0.113.9", False),
        ({"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}, "203.0.113.9", True),
        ({"X-Forwarded-For": "1.2.3.4, 203.0.113.9"}, "203.0.113.9", False),
        ({"X-Forwarded-For": "203.0.113.9, 10.0.0.2"}, "203.0.113.9", False),
        ({"X-Forwarded-For": "evil, 10.0.0.2"}, "10.0.0.2", False),
        ({"X-Forwarded-For": "203.0.113.9:443"}, "203.0.113.9", False),
        ({"X-Forwarded-Proto": "https"}, "10.0.0.1", True),
        ({"Forwarded": "for=203.0.113.9;proto=https"}, "203.0.113.9", True),
        ({"Forwarded": 'for="[2001:db8::1]:80"'}, "2001:db8::1", False),
        ({"Forwarded": "for=1.2.3.4, for=203.0.113.9"}, "203.0.113.9", False),
        ({"Forwarded": 'for="1.2.3.4, for=5.6.7.8'}, "10.0.0.1", False),
        ({"Forwarded": "for=unknown"}, "10.0.0.1", False),
        ({"Forwarded": "for=1.2.3.4", "X-Forwarded-For": "203.0.113.9"}, "203.0.113.9", False),
    ],
)
def test_proxy_of_ours(headers: dict[str, str], address: str, secure: bool) -> None:
    """What a proxy of ours added counts, up to the first address that is none of ours."""
    found = find_client("10.0.0.1", CIMultiDict(headers), PROXIES, secure=False)
    assert found == Client(address, secure)


def test_line_below_the_clients() -> None:
    """A proxy may add a line of its own below what it was sent: the last one counts."""
    for name, forged, true in (
        ("X-Forwarded-For", "1.2.3.4", "203.0.113.9"),
        ("Forwarded", "for=1.2.3.4", "for=203.0.113.9"),
    ):
        headers = CIMultiDict([(name, forged), (name, true)])
        assert find_client("10.0.0.1", headers, PROXIES, secure=False).address == "203.0.113.9"


@given(
    st.dictionaries(
        st.sampled_from(("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto")), st.text()
    )
)
def test_nobody_elses_word_counts(headers: dict[str, str]) -> None:
    """Whoever is no proxy of ours is where it connects from, whatever it says."""
    found = find_client("203.0.113.1", CIMultiDict(headers), PROXIES, secure=False)
    assert found == Client("203.0.113.1", secure=False)


@given(st.text(alphabet='for=";,\\ []:.0123456789abc'), st.booleans())
def test_a_client_cannot_write_to_the_right(text: str, rfc: bool) -> None:
    """Whatever a client wrote, what our proxy appended decides."""
    if rfc:
        balanced = text.replace('"', "").replace("\\", "")
        headers = {"Forwarded": f"{balanced}, for=203.0.113.9"}
    else:
        headers = {"X-Forwarded-For": f"{text}, 203.0.113.9"}
    found = find_client("10.0.0.1", CIMultiDict(headers), PROXIES, secure=False)
    assert found.address in {"203.0.113.9", "10.0.0.1"}
