"""Where a client is that comes through a proxy, as far as the proxy may be believed.

``X-Forwarded-For`` and ``-Proto``, or where there is none ``Forwarded`` (RFC 7239): each proxy adds
to the right of what it was sent, or a line below it, so that only what proxies of ours have added
can be believed, and a client can write what it likes to the left of that.  A proxy that writes one
of the two has to remove the other; most write the first.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.limits.sources import TrustedSources

MAX_HOPS = 16
"""Proxies in a row that are looked at."""

HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto")

_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*')
"""RFC 7239, section 4: a name and a token or quoted text."""


class Headers(Protocol):
    """A request's headers, of which there may be several of a name."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """All of a name."""


class Client(NamedTuple):
    """Where a request comes from."""

    address: str
    secure: bool


def find_client(peer: str, headers: Headers, proxies: TrustedSources, *, secure: bool) -> Client:
    """Say who the client is.

    Args:
        peer: The IP address at the other end of the connection.
        headers: The request's.
        proxies: Whose word counts.
        secure: Whether the connection itself is by TLS.
    """
    if not peer or peer not in proxies:
        return Client(peer, secure)
    protocols = _words(headers, "X-Forwarded-Proto")
    addresses = _words(headers, "X-Forwarded-For")
    forwarded = headers.getall("Forwarded", [])
    if forwarded and not addresses:
        hops = list(_forwarded_hops(", ".join(forwarded)))
    else:
        # A proxy that replaces the one and adds to the other leaves one protocol, its own.
        hops = [(address, protocols[-1] if protocols else "") for address in addresses or [peer]]
    client = Client(peer, secure)
    for text, protocol in reversed(hops[-MAX_HOPS:]):
        address = _address(text)
        if address is None:
            break
        client = Client(address, protocol.lower() == "https" if protocol else client.secure)
        if address not in proxies:
            break
    return client


def _words(headers: Headers, name: str) -> list[str]:
    text = ",".join(headers.getall(name, []))
    return [word.strip() for word in text.split(",") if word.strip()]


def _forwarded_hops(text: str) -> Iterator[tuple[str, str]]:
    """The addresses and protocols in ``Forwarded``; what cannot be read is an address of nobody."""
    pairs: dict[str, str] = {}
    position = 0
    while position <= len(text):
        found = _PAIR.match(text, position)
        if found:
            name, value = found[1].lower(), found[2]
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            pairs.setdefault(name, value)
            position = found.end()
        end = text[position : position + 1]
        if end not in {";", ",", ""}:
            yield "", ""
            return
        if end != ";":
            yield pairs.get("for", ""), pairs.get("proto", "")
            pairs = {}
        position += 1


def _address(text: str) -> str | None:
    """The address in ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
