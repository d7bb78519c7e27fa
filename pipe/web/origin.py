"""Whose page sent a request: the rules for Host, Origin, Sec-Fetch-Site and the cookie.

A browser sends a page's request to whatever address the page names, with the cookie of that
address where it may.  Three headers tell who is behind it, and a page cannot forge them:

    Host            the name that was typed: a rebound DNS name betrays itself here
    Origin          the page that asks: on every POST, PUT and WebSocket, and on a foreign fetch
    Sec-Fetch-Site  how that page relates to this server; only where the address counts as secure

Pure functions of what came: no request, no loop.  Programs send neither of the last two, and are
known by their tokens; nothing here concerns them.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

TUNNEL_HOST = "pipe"
"""What a client may call this server in a tunnel, beside loopback names."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that a browser sends without an Origin from a page of the same origin."""

_HOST = re.compile(r"[A-Za-z0-9._\-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
"""A name or address and a port, and nothing that anybody might read otherwise than we do."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_OWN_SITES = frozenset({"same-origin", "none"})
"""``none``: the user typed the address, or another program opened it."""


class Place(NamedTuple):
    """A host and a port, as one origin or ``Host`` header names them."""

    host: str
    port: int


class Site:
    """The page's own address.

    Args:
        url: The setting ``web-url``: scheme, host and port, and nothing else.
        loopback_names: Whether ``Host`` may also be a loopback name with any port: for those who
            come by ``ssh -L`` or from the machine itself.
    """

    def __init__(self, url: str, *, loopback_names: bool = True) -> None:
        self.url = url.rstrip("/")
        place = _place_of_origin(self.url)
        if place is None:
            raise ValueError(f"no origin: {url}")
        self.secure = urlsplit(url).scheme == "https"
        self._place = place
        self._loopback_names = loopback_names

    @property
    def cookie_name(self) -> str:
        """With TLS a name that neither another port's server nor a subdomain's can set."""
        return "__Host-pipe" if self.secure else "pipe"

    def accepts_host(self, host: str | None) -> bool:
        """Say whether a request was meant for us.

        A missing ``Host`` is HTTP/1.0, which no browser speaks.
        """
        if host is None:
            return True
        place = parse_host(host, _DEFAULT_PORTS["https" if self.secure else "http"])
        if place is None:
            return False
        return place == self._place or (self._loopback_names and is_loopback(place.host))

    def accepts_origin(self, origin: str | None) -> bool:
        """Say whether a page that is named so is ours."""
        return origin is not None and same_origin(origin, self.url)

    def accepts_cookie(
        self, method: str, headers: Mapping[str, str], *, upgrade: bool = False
    ) -> bool:
        """Say whether a request's cookie counts; where not, it is as if it were absent.

        A GET of ours joins a topic, so it is an act as much as a POST: ``Sec-Fetch-Site`` counts
        for all of them.  Who shows a token instead may call the server by any name: no page can
        have a browser show one that it does not know.

        Args:
            method: As it came.
            headers: By name; aiohttp's ignore case.
            upgrade: It wants to become a WebSocket.
        """
        origin = headers.get("Origin")
        if origin is not None and not self.accepts_origin(origin):
            return False
        if not self.accepts_host(headers.get("Host")):
            return False
        if headers.get("Sec-Fetch-Site", "none") not in _OWN_SITES:
            return False
        return origin is not None or (method in SAFE_METHODS and not upgrade)


def accepts_in_tunnel(headers: Mapping[str, str]) -> bool:
    """Say whether a request in an SSH tunnel comes from a page of the tunnel's own, or from none.

    Whoever reaches the user's forwarded port is the user, and any page in the user's browser
    reaches it.  There is no cookie to withhold, so all three headers are checked.
    """
    host = headers.get("Host")
    if host is not None:
        place = parse_host(host, _DEFAULT_PORTS["http"])
        if place is None or not (is_loopback(place.host) or place.host == TUNNEL_HOST):
            return False
    origin = headers.get("Origin")
    if origin is not None and (host is None or not same_origin(origin, f"http://{host}")):
        return False
    return headers.get("Sec-Fetch-Site", "none") in _OWN_SITES


def parse_host(text: str, default_port: int) -> Place | None:
    """Read a ``Host`` header; None if it is none."""
    if not _HOST.fullmatch(text):
        return None
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host:
        return None
    return Place(host.removesuffix("."), default_port if port is None else port)


def same_origin(one: str, other: str) -> bool:
    """Say whether two origins are the same: scheme, host and port."""
    first, second = _place_of_origin(one), _place_of_origin(other)
    return first is not None and first == second and urlsplit(one).scheme == urlsplit(other).scheme


def is_loopback(host: str) -> bool:
    """Say whether a name can only mean the machine that it is used on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _place_of_origin(origin: str) -> Place | None:
    scheme, separator, rest = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    return parse_host(rest, default) if separator and default else None
