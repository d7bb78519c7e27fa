"""How a publisher whose connection was lost goes on with its stream.

With ``pub --hold`` the stream stands when its connection is lost: readers wait, as its member stays
on the topic without a client.  Another session of the same user takes its place with ``--at``, if
that names the byte that comes next.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pipe.errors import TooLate
from pipe.language.requests import Publish
from pipe.limits.holds import Held
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from pipe.language.names import TopicName
    from pipe.language.requests import Request
    from pipe.rights.access import Loss
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.place import Place
    from pipe.stream.ports import Receipt
    from pipe.stream.topics import Member


class Absent:
    """The source of a publisher whose client is away: nothing comes from it."""

    def pause(self) -> None:
        """It publishes nothing anyway."""

    def resume(self) -> None:
        """It has nothing to publish."""

    def waits(self, missing: int) -> None:
        """Nobody is there to be told."""

    def finish(self, receipt: Receipt) -> None:
        """It never ends by itself."""


def hold_place(
    service: Service, caller: Caller, request: Request | None, place: Place, member: Member
) -> bool:
    """Let a publisher's place stand without it, and return whether that is so."""
    topic = member.topic
    if not isinstance(request, Publish) or not request.hold or topic is None:
        return False
    name = topic.name
    if not member.started or member.ended or name in service.holds:
        return False
    loop = asyncio.get_running_loop()

    def leave(broken: bool) -> None:
        if not broken:
            member.ended = True
            member.exit_status = 0  # the one who goes on leaves its own
        place.leave(member, loop.time())

    def lost(_: Loss) -> None:
        service.holds.drop(name)

    member.source = Absent()
    place.tell_of_loss(lost)
    service.holds.hold(name, Held(caller, member.at + member.received_bytes, leave), request.hold)
    return True


def check_resume(service: Service, caller: Caller, name: TopicName, request: Publish) -> bool:
    """Check that a publisher may go on with a stream, and return whether there is one.

    Raises:
        TooLate: there is none, or it goes on with another byte.
    """
    if request.at is None:
        return False
    for session, member in service.sessions_on(name):
        own = member.mode is Mode.PUBLISH and session.caller.user == caller.user
        if own and request.at and member.at + member.received_bytes == request.at:
            session.hand_over()  # its connection may be dead, and the server not know yet
    held = service.holds.of(name, caller.user)
    if held is None and not request.at:
        return False
    if held is None:
        raise TooLate(f"no stream of yours is held on {name} at byte {request.at}")
    if held.taken != request.at:
        raise TooLate(f"the stream on {name} goes on with byte {held.taken}, not {request.at}")
    return True
