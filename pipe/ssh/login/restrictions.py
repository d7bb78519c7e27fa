"""The limits that a certificate or a line of a key file sets.

Forwarding and the like are missing here because nobody gets any.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Restrictions:
    """Limits on the sessions of one login."""

    command: str | None = None
    """The command to run, whatever the client asks for."""
    pty: bool = True
    """Whether the client may have a pseudo-terminal."""
    certified_addresses: str = ""
    """Where its certificate may be used; addresses in a file are checked again at each use."""


NO_RESTRICTIONS = Restrictions()
