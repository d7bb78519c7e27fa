"""What a certificate or a line of a key file holds its bearer to, and a session that keeps to it.

Forwarding and the like need no place here: nobody is given any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipe.ssh.channel import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.rights.access import Caller
    from pipe.service import Service
    from pipe.ssh.connection import Connection


@dataclass(frozen=True, slots=True)
class Restrictions:
    """Limits on the sessions of one login."""

    command: str | None = None
    """The only command, whatever the client asks for."""
    pty: bool = True
    """Whether the client may have a pseudo-terminal."""
    certified_addresses: str = ""
    """Where alone its certificate may be used; addresses in a file are judged anew at each use."""


class RestrictedSession(Session):
    """A session under `Restrictions`."""

    def __init__(
        self,
        service: Service,
        connection: Connection,
        caller: Caller,
        restrictions: Restrictions,
    ) -> None:
        super().__init__(service, connection, caller)
        self._restrictions = restrictions

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        """Refuse a pseudo-terminal where there shall be none; the client goes on without."""
        return self._restrictions.pty and super().pty_requested(term_type, term_size, term_modes)

    def shell_requested(self) -> bool:
        """Run the command that there is."""
        if self._restrictions.command is None:
            return super().shell_requested()
        return super().exec_requested(self._restrictions.command)

    def exec_requested(self, command: str) -> bool:
        """Run the command that there is, or the client's."""
        forced = self._restrictions.command
        return super().exec_requested(command if forced is None else forced)
