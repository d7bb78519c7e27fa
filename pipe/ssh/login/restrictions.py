"""The limits that a certificate or a line of a key file sets."""

from __future__ import annotations

from dataclasses import dataclass

_ANY = "*"


@dataclass(frozen=True, slots=True)
class Restrictions:
    """Limits on the sessions and tunnels of one login."""

    command: str | None = None
    """The command to run, whatever the client asks for."""
    pty: bool = True
    """Whether the client may have a pseudo-terminal."""
    forwarding: bool = True
    """Whether the client may open tunnels."""
    opens: frozenset[tuple[str, str]] = frozenset()
    """The only hosts and ports that it may open them to, as written; empty: there is no such list.
    As in sshd a ``*`` is any host or any port, and a host is compared as text."""
    certified_addresses: str = ""
    """Where its certificate may be used; addresses in a file are checked again at each use."""

    def why_no_tunnel(self, host: str, port: int) -> str:
        """Why the client may open no tunnel to this place; empty if it may."""
        if self.command is not None:
            return "this login runs one command and nothing else"
        if not self.forwarding:
            return "this login may not forward ports"
        if self.opens and not any(
            one in {host, _ANY} and number in {str(port), _ANY} for one, number in self.opens
        ):
            return "this login may forward ports, but not to there (permitopen)"
        return ""


NO_RESTRICTIONS = Restrictions()
