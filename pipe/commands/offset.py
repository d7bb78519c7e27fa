"""``offset``: how many bytes of a publisher's stream were taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import TooLate
from pipe.language.names import parse_topic
from pipe.rights.grants import Operation
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from pipe.rights.callers import Caller
    from pipe.service import Service


def offset(service: Service, caller: Caller, raw: str) -> str:
    """Answer with the number of the byte that comes next.

    Raises:
        BadName: the name is not valid.
        TooLate: the caller has no stream there.
    """
    name = parse_topic(raw, caller=caller.user)
    may_write = service.access.decide(caller, name, Operation.WRITE).allowed
    held = service.holds.of(name, caller.user)
    if held and may_write:
        return f"{held.taken}\n"
    for session, member in service.sessions_on(name) if may_write else ():
        if member.mode is Mode.PUBLISH and session.caller.user == caller.user:
            return f"{member.at + member.received_bytes}\n"
    ended = service.holds.ended(name, caller.user)
    if ended and may_write:
        return f"{ended.total}\n"
    raise TooLate(
        f"you have no stream on {name}: it has ended, was not held for so long, or the server was"
        " restarted"
    )
