"""Which streams may finish while a server stops: those that move, wherever they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipe.rights.live import LiveSession
    from pipe.stream.router import Router
    from pipe.stream.topics import Member


class Draining:
    """Remembers when each stream has moved last.

    Args:
        router: of the streams that are here.
        patience: seconds after which a stream stands still that has moved no byte.
    """

    def __init__(self, router: Router, patience: float) -> None:
        self._router = router
        self._patience = patience
        self._moved: dict[LiveSession, tuple[int, float]] = {}

    def may_finish(self, session: LiveSession, now: float) -> bool:
        """Return whether a session is part of a stream that still moves, or will end by itself."""
        member, abroad = session.member, session.abroad
        here = member if member and member.joined else None
        if abroad is None and here is None:
            return not session.follows  # otherwise it answers a command, or is ending
        if abroad and not abroad.is_told:
            return not session.follows
        counts = [bytes_of_stream(self._router, here) if here else None]
        if abroad:
            counts.append(abroad.moved_bytes)
        moving = [count for count in counts if count is not None]
        if not moving:
            return False
        count = sum(moving)
        before, since = self._moved.get(session, (-1, now))
        if count != before:
            self._moved[session] = (count, now)
            return True
        return now - since < self._patience


def bytes_of_stream(router: Router, member: Member) -> int | None:
    """How many bytes the streams have moved that a member is part of; None if they only wait."""
    stream: tuple[Member, ...] = (member,)
    if not (member.finishing or member.ended):
        topics = [member.topic] if member.topic else member.topics
        stream = tuple(other for topic in topics if topic for other in router.members(topic.name))
        writes = any(other.source and other.started and not other.waiting for other in stream)
        reads = any(other.sink for other in stream)
        if not (writes and reads):
            return None
    return sum(other.received_bytes + other.written_bytes for other in stream)
