"""Where tunnels may lead, and for whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.ssh.login.restrictions import NO_RESTRICTIONS, Restrictions
from pipe.ssh.tunnel.places import HOSTS, PORT, why_not

PUBLIC = "Pipe.Example.org"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "::1", "pipe", PUBLIC.lower()]
)
def test_the_server_itself(host: str) -> None:
    """All that people call it leads to its HTTP, at port 80 and no other."""
    assert why_not(host, 80, PUBLIC, NO_RESTRICTIONS) == ""
    assert "only localhost:80" in why_not(host, 22, PUBLIC, NO_RESTRICTIONS)


@given(st.text(), st.integers(0, 2**32 - 1))
def test_nothing_else(host: str, port: int) -> None:
    """Any other place is refused in one line that can be printed."""
    text = why_not(host, port, PUBLIC, NO_RESTRICTIONS)
    own = port == PORT and host.lower().removesuffix(".") in {*HOSTS, PUBLIC.lower()}
    assert bool(text) is not own
    assert text.isprintable()


@pytest.mark.parametrize(
    ("restrictions", "reason"),
    [
        (Restrictions(command="sub x"), "runs one command"),
        (Restrictions(command=""), "runs one command"),
        (Restrictions(forwarding=False), "may not forward"),
        (Restrictions(opens=frozenset({("localhost", "22")})), "permitopen"),
        (Restrictions(opens=frozenset({("127.0.0.1", "80")})), "permitopen"),
        (Restrictions(opens=frozenset({("localhost", "80")})), ""),
        (Restrictions(opens=frozenset({("localhost", "*"), ("x", "1")})), ""),
        (Restrictions(opens=frozenset({("*", "80")})), ""),
    ],
)
def test_restrictions(restrictions: Restrictions, reason: str) -> None:
    """What a login is held to counts, and ``permitopen`` compares hosts as text, as sshd does."""
    text = why_not("localhost", 80, PUBLIC, restrictions)
    assert reason in text
    assert bool(text) is bool(reason)
