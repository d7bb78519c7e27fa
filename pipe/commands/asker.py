"""Who asks for an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipe.limits.quotas import Holder
    from pipe.rights.callers import Caller
    from pipe.rights.live import LiveSession


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, from where, over which session, and what came on its stdin."""

    caller: Caller
    address: str
    session: LiveSession
    stdin: bytes = b""
    holders: tuple[Holder, ...] = ()
    """Whose quotas its sessions count for: the user, and the address unless it is trusted."""
