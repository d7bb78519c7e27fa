"""What a certificate or a line of a key file holds its bearer to.

Forwarding and the like need no place here: nobody is given any.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Restrictions:
    """Limits on the sessions of one login."""

    command: str | None = None
    """The only command, whatever the client asks for."""
    pty: bool = True
    """Whether the client may have a pseudo-terminal."""
    certified_addresses: str = ""
    """Where alone its certificate may be used; addresses in a file are judged anew at each use."""


NO_RESTRICTIONS = Restrictions()
