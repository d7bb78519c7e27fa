"""Where a tunnel may lead: to the server itself, by the names that people try, and its HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.language.names import quoted

if TYPE_CHECKING:
    from pipe.ssh.login.restrictions import Restrictions

PORT = 80
"""The one port: whoever forwards to it expects HTTP."""

HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "pipe"})
"""What the server may be called, beside its public name."""


def why_not(host: str, port: int, public_host: str, restrictions: Restrictions) -> str:
    """Why a login gets no tunnel to a place, in one line; empty if it gets one.

    Args:
        host: as the client wrote it.
        port: the same.
        public_host: the server's name, as users know it.
        restrictions: of the login.
    """
    reason = restrictions.why_no_tunnel(host, port)
    if reason:
        return reason
    name = host.lower().removesuffix(".")
    if port == PORT and name in HOSTS | {public_host.lower()}:
        return ""
    place = quoted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return f"nothing is forwarded to {place}: only localhost:{PORT}, which is this server's HTTP"
