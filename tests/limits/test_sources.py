"""What counts as one address, and which addresses are exempt."""

from __future__ import annotations

import pytest

from pipe.limits.bounds import parse_networks
from pipe.limits.sources import ClaimLimit, TrustedSources, source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
    ],
)
def test_source(address: str, source: str) -> None:
    """An IPv4 address, however it is written, or the /64 of an IPv6 address."""
    assert source_of(address) == source


@pytest.mark.parametrize(
    ("networks", "address", "trusted"),
    [
        ("127.0.0.0/8,::1", "127.9.9.9", True),
        ("127.0.0.0/8,::1", "::1", True),
        ("127.0.0.0/8,::1", "::ffff:127.0.0.1", True),
        ("127.0.0.0/8, ::1", "10.0.0.1", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("none", "127.0.0.1", False),
    ],
)
def test_trusted(networks: str, address: str, trusted: bool) -> None:
    """Networks of both families, with none as an empty list."""
    assert (address in TrustedSources(parse_networks(networks))) is trusted


def test_claims() -> None:
    """So many within a day and a source, and the loopback address as many as it likes."""
    claims = ClaimLimit(2)
    for now in (0.0, 10.0):
        assert claims.allows("2001:db8::1", now)
        claims.record("2001:db8::1", now)
    assert not claims.allows("2001:db8::2", 86_399.0)
    assert claims.allows("2001:db8:0:1::1", 20.0)
    assert claims.allows("2001:db8::2", 86_400.0)
    for _ in range(5):
        claims.record("127.0.0.1", 0.0)
    assert claims.allows("127.0.0.1", 0.0)
