"""People in a room, and what they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.chat.wire import shown_name
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from pipe.chat.events import Event
    from pipe.chat.room import Room


class Talker:
    """Somebody with a chat."""

    def __init__(self, user: str, nick: str = "") -> None:
        self.user = user
        self.nick = nick
        self.member = member_of(user)
        self.told: list[Event] = []

    @property
    def name(self) -> str:
        """How the person is shown."""
        return shown_name(self.user, self.nick)

    def tell(self, event: Event) -> None:
        """Keep it."""
        self.told.append(event)

    def enter(self, room: Room) -> Talker:
        """Come in."""
        room.enter(self, self.member)
        return self


def member_of(user: str) -> Member:
    """A member of a topic."""
    member = Member(Mode.PIPE)
    member.user = user
    member.joined = True
    return member
