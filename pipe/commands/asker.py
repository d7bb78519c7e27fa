"""Who asks for an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipe.limits.quotas import Holder
    from pipe.rights.callers import Caller
    from pipe.rights.live import LiveSession


class Answer(str):
    """What a command prints, if there is a status to exit with that is no failure of its own."""

    __slots__ = ("exit_status",)

    exit_status: int

    def __new__(cls, text: str, exit_status: int) -> Answer:
        """Put both together."""
        made = super().__new__(cls, text)
        made.exit_status = exit_status
        return made


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, from where, over which session, and what came on its stdin."""

    caller: Caller
    address: str
    session: LiveSession
    stdin: bytes = b""
    holders: tuple[Holder, ...] = ()
    """Whose quotas its sessions count for: the user, and the address unless it is trusted."""
