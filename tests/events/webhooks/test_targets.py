"""Which URLs and addresses webhooks may send to."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import UsageError
from pipe.events.webhooks.targets import check_url, why_refused
from pipe.limits.bounds import parse_networks

PRIVATE = parse_networks("10.0.0.0/8,fd00::/8")

NEVER = [
    *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1"),  # noqa: S104
    *("169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255", "192.88.99.1", "192.0.2.1"),
    *("::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00::1", "fec0::1", "ff02::1", "ff0e::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::7f00:1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "3fff::1", "100::1"),
    *("4000::1", "localhost", "127.1", "0177.0.0.1", "2130706433", ""),
]


@pytest.mark.parametrize("address", NEVER)
def test_not_public(address: str) -> None:
    """Whatever is not on the open net is refused, also where it is wrapped into another address."""
    for plain in (False, True):
        assert why_refused(address, (), plain=plain)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"],
)
def test_public(address: str) -> None:
    """What is on the open net may be sent to, but not by plain HTTP."""
    assert why_refused(address, PRIVATE, plain=False) == ""
    assert "use https" in why_refused(address, PRIVATE, plain=True)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"])
def test_networks(address: str) -> None:
    """The operator's networks are open, also to plain HTTP."""
    for plain in (False, True):
        assert why_refused(address, PRIVATE, plain=plain) == ""


@pytest.mark.parametrize("address", ["64:ff9b::a00:1", "2002:a00:1::1"])
def test_networks_are_open_as_they_are_written(address: str) -> None:
    """They are not reached through a translator that stands elsewhere."""
    assert why_refused(address, PRIVATE, plain=False)


@given(address=st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(v=4))
def test_wrapped_is_as_bare(address: ipaddress.IPv4Address) -> None:
    """An IPv4 address in an IPv6 one is never allowed where the bare one is not."""
    bare = why_refused(str(address), (), plain=False)
    for wrapped in (
        ipaddress.IPv6Address(f"::ffff:{address}"),
        ipaddress.IPv6Address(f"64:ff9b::{address}"),
        ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)),
    ):
        assert bool(why_refused(str(wrapped), (), plain=False)) == bool(bare)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https://example.org:8443/hooks/a%20b?x=1&y=[2]",
        "https://xn--bcher-kva.example/",
        "https://1.1.1.1/x",
        "https://[2606:4700::1111]/x",
        "https://a_b.example.org./",
        "HTTPS://EXAMPLE.ORG/",
    ],
)
def test_good_urls(url: str) -> None:
    """What may be sent to is kept as it was written."""
    assert check_url(url, ()) == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is not of the form https://host/path"),
        ("example.org/x", "is not of the form"),
        ("ftp://example.org", "is not of the form"),
        ("https:///x", "is not of the form"),
        ("https://example.org:0/", "is not of the form"),
        ("https://example.org:99999/", "is none: Port out of range"),
        ("https://example.org:x/", "is none: Port could not"),
        ("https://[::1/", "is none"),
        ("https://[v1.x]/", "no address in the usual form"),
        ("https://alice:secret@example.org/", "user or password"),
        ("https://example.org/#x", "#fragment"),
        ("https://example.org/a b", "percent-encoded"),
        ("https://example.org\\@127.0.0.1/", "percent-encoded"),
        ("https://bücher.example/", "percent-encoded"),
        ("https://example.org/\r\nX: y", "percent-encoded"),
        ("http://example.org/", "http would send in the open: use https"),
        ("https://127.0.0.1/", "127.0.0.1 is not a public address"),
        ("https://[::ffff:127.0.0.1]/", "127.0.0.1 is not a public address"),
        ("https://169.254.169.254/latest", "is not a public address"),
        ("https://2130706433/", "no address in the usual form"),
        ("https://127.1/", "no address in the usual form"),
        ("https://0x7f.1/", "no address in the usual form"),
        ("https://0177.0.0.1/", "no address in the usual form"),
        ("https://%31%32%37.0.0.1/", "no address in the usual form"),
        ("https://%6cocalhost/", "no name"),
        ("https://-x.example/", "no name"),
        (f"https://example.org/{'x' * 2048}", "too long"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    """What cannot be sent to is refused in a line that says why."""
    with pytest.raises(UsageError, match=message) as caught:
        check_url(url, ())
    assert caught.value.message.isprintable()
    assert "secret" not in caught.value.message


def test_http_where_the_operator_allows_it() -> None:
    """With networks for it, plain HTTP goes to names, and to addresses in those networks only."""
    for url in ("http://receiver.internal/x", "http://10.0.0.1/", "http://[fd00::1]:8080/"):
        assert check_url(url, PRIVATE) == url
    with pytest.raises(UsageError, match="http is not allowed to"):
        check_url("http://1.1.1.1/", PRIVATE)


@given(text=st.text())
def test_any_text_is_a_url_or_a_usage_error(text: str) -> None:
    """Nothing raises anything else."""
    for url in (text, f"https://{text}", f"https://example.org{text}"):
        with contextlib.suppress(UsageError):
            assert check_url(url, PRIVATE).isprintable()
