"""Which URLs and addresses a webhook may send to: the web, and nothing that only this server sees.

A URL is checked as it is given, for the sake of a clear answer.  What keeps webhooks out of private
networks is `why_refused`, which the sender asks of the very address that it is about to connect to:
whatever a name means then, and however an address is written.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipe.errors import UsageError
from pipe.language.names import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipe.limits.bounds import Network

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_LENGTH = 2048
"""Characters of a URL: more than any service asks for."""

_URL = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")
"""The characters of RFC 3986; without a backslash, which programs read in different ways."""

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")

_NUMERIC = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?")
"""What ends in a number is meant as an IPv4 address, also ``127.1`` and ``2130706433``."""

_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # of the protocols themselves
            "192.88.99.0/24",  # relays of 6to4
            "224.0.0.0/4",  # groups
            "3fff::/20",  # for documents
        ),
    )
)
"""What Python's ``is_global`` lets through, in some version or other."""

_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that is in use of IPv6 outside of special purposes."""

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as NAT64 writes them (RFC 6052)."""


def check_url(text: str, networks: Sequence[Network]) -> str:
    """Check the URL of a new webhook, and return it.

    Args:
        text: The URL as its user wrote it.
        networks: Where plain HTTP and private addresses are allowed.

    Raises:
        UsageError: It cannot be sent to; one line says why.
    """
    if len(text) > MAX_URL_LENGTH:
        raise UsageError(f"the URL is too long: at most {MAX_URL_LENGTH} characters")
    if not _URL.fullmatch(text):
        raise UsageError(f"the URL {quoted(text)} has characters that have to be percent-encoded")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"the URL {quoted(text)} is none: {error}") from None
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise UsageError(f"the URL {quoted(text)} is not of the form https://host/path")
    if "@" in parts.netloc:
        raise UsageError("the URL has a user or password in it: the signature proves who sends")
    if parts.fragment:
        raise UsageError("the URL has a #fragment, which is never sent: leave it out")
    plain = parts.scheme == "http"
    if plain and not networks:
        raise UsageError("http would send in the open: use https")
    literal = "[" in parts.netloc
    if reason := _why_not_host(host, networks, literal=literal, plain=plain):
        raise UsageError(f"the URL {quoted(text)} cannot be sent to: {reason}")
    return text


def _why_not_host(host: str, networks: Sequence[Network], *, literal: bool, plain: bool) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if literal or _NUMERIC.fullmatch(host):
            return "its host is no address in the usual form"
        return "" if _NAME.fullmatch(host) else "its host is no name"
    return why_refused(host, networks, plain=plain)


def is_plain(url: str) -> bool:
    """Whether a URL that was checked is one of plain HTTP."""
    return urlsplit(url).scheme == "http"


def host_of(url: str) -> str:
    """The host in a URL that was checked; paths may be secret."""
    return urlsplit(url).hostname or ""


def why_refused(text: str, networks: Sequence[Network], *, plain: bool) -> str:
    """Why an address must not be connected to; empty if it may be.

    Args:
        text: The address, as the system call takes it.
        networks: Where plain HTTP and private addresses are allowed.
        plain: Whether it is for plain HTTP.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return f"{quoted(text)} is no address"
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if any(address in network for network in networks):
        return ""
    if not _is_public(address):
        return f"{address} is not a public address"
    return f"http is not allowed to {address}: use https" if plain else ""


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour:
            return _is_public(address.sixtofour)
        if address.teredo or address not in _UNICAST:
            return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)
