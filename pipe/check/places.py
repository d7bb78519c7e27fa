"""Where the server listens, and where browsers are led.

A port is tried by binding it, which nobody else notices: without listening nothing is accepted.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pipe.check.findings import Finding, error, ok, warning
from pipe.errors import StartError
from pipe.settings import is_loopback, is_wildcard
from pipe.ssh.server import SERVER_VERSION
from pipe.web.server import check_privacy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.settings import Settings

_BANNER_SECONDS = 2.0
_ANYWHERE = "0.0.0.0"  # noqa: S104 - it is compared, or was asked for


class _Place(NamedTuple):
    """A host and port to listen on, and the setting of the port."""

    about: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def meets(self, other: _Place) -> bool:
        """Return whether both cannot be had by one server."""
        same = self.host == other.host or is_wildcard(self.host) or is_wildcard(other.host)
        return self.port == other.port and same


def check_places(settings: Settings) -> Iterator[Finding]:
    """Look at the ports, and at what is said about HTTP."""
    ssh = _Place("port", settings.host, settings.port)
    web = _Place("web-port", settings.web_host, settings.web_port)
    metrics = _Place("metrics-port", settings.metrics_host, settings.metrics_port)
    running = _speaks_pipe(ssh)
    taken: list[_Place] = []
    for place in (ssh, web, metrics):
        if not place.port:
            if place is ssh:
                yield ok(place.about, "any that is free, as it is 0: clients have to be told which")
            continue
        rival = next((other for other in taken if other.meets(place)), None)
        taken.append(place)
        if rival:
            yield error(place.about, f"{place} is also what {rival.about} says: choose another one")
        else:
            spared = place is web and "web_port" not in settings.model_fields_set
            yield _check_place(place, running=running, spared=spared)
    yield from _check_web(settings)


def _check_place(place: _Place, *, running: bool, spared: bool) -> Finding:
    """Try to bind.

    Args:
        place: What to bind.
        running: Whether a pipe server listens for SSH where this one would.
        spared: Whether a start would go on without this port.
    """
    option = f"--{place.about}"
    host_option = option.replace("port", "host")
    try:
        _bind(place)
    except socket.gaierror:
        return error(
            place.about, f"there is no host {place.host} here: choose another {host_option}"
        )
    except OSError as problem:
        level = warning if spared else error
        reason = os.strerror(problem.errno) if problem.errno else str(problem)
        advice = f"choose another {host_option} or {option}"
        if problem.errno == errno.EACCES:
            advice = "ports below 1024 take a right: docs/operations.md, 'Port 22'"
        elif problem.errno == errno.EADDRINUSE:
            if running:
                return warning(
                    place.about,
                    f"{place} is in use, as it seems by the pipe server that runs here: a start"
                    " needs it stopped",
                )
            advice = f"'ss -ltnp' shows by whom; {advice}"
        return level(place.about, f"cannot listen on {place}: {reason}; {advice}")
    return ok(place.about, f"{place} is free")


def _bind(place: _Place) -> None:
    """Bind each address of the host, and let go of it.

    Raises:
        OSError: One of them cannot be had.
    """
    hosts = (place.host, _ANYWHERE) if place.host == "::" else (place.host,)
    for host in hosts:
        for family, kind, protocol, _, address in dict.fromkeys(
            socket.getaddrinfo(host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            with socket.socket(family, kind, protocol) as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    attempt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                attempt.bind(address)


def _speaks_pipe(place: _Place) -> bool:
    """Return whether a pipe server is there already; to it this is a health check."""
    if not place.port:
        return False
    host = place.host
    if is_wildcard(host):
        host = "::1" if ":" in host else "127.0.0.1"
    expected = f"SSH-2.0-{SERVER_VERSION}".encode()
    try:
        with socket.create_connection((host, place.port), _BANNER_SECONDS) as connection:
            return connection.recv(len(expected), socket.MSG_WAITALL) == expected
    except OSError:
        return False


def _check_web(settings: Settings) -> Iterator[Finding]:
    about = "web-url"
    if not settings.web_port:
        if settings.web_url:
            yield warning(about, "it is not used, as web-port is 0: there are no web pages")
        return
    try:
        check_privacy(settings)
    except StartError as problem:
        yield error("web-host", problem.message)
        return
    proxied = settings.web_proxies != type(settings).model_fields["web_proxies"].default
    url = urlsplit(settings.resolved_web_url)
    outside = not is_loopback(url.hostname or "")
    shown = settings.resolved_web_url
    if settings.web_url and url.scheme == "https" and not (settings.web_tls_cert or proxied):
        yield warning(
            about,
            f"{shown} is HTTPS, and nobody speaks it: give --web-tls-cert, or name the proxy that"
            " does in --web-proxies",
        )
    elif settings.web_url and url.scheme == "http" and settings.web_tls_cert:
        yield warning(about, f"{shown} is plain HTTP, and the server speaks HTTPS: write https")
    elif outside and is_loopback(settings.web_host) and not proxied:
        yield warning(
            about,
            f"{shown} is for everybody, and web-host {settings.web_host} for this machine alone:"
            " set --web-host, or name the proxy on this machine in --web-proxies",
        )
    elif not (outside or is_loopback(settings.host) or settings.web_tunnel):
        yield warning(
            about,
            f"'login' and 'link' print {shown}, which only this machine can open: set --web-url,"
            " or --web-port 0 for no pages",
        )
    else:
        yield ok(about, f"links lead to {shown}")
