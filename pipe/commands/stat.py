"""``stat``: who is on a topic, and how fast each of them is."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, NamedTuple

from pipe.commands.explain import counts_of, state_of
from pipe.commands.latest import Latest
from pipe.commands.layout import count, labelled, listed, size, table
from pipe.commands.ls import RATE_INTERVAL_SECONDS, in_turns, rate
from pipe.commands.progress_line import MAX_NAMES
from pipe.commands.screen import no_screen
from pipe.errors import AccessDenied
from pipe.language.names import escape, parse_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipe.commands.screen import Screen
    from pipe.language.names import TopicName
    from pipe.language.progress_requests import Stat
    from pipe.rights.callers import Caller
    from pipe.rights.live import LiveSession
    from pipe.service import Service
    from pipe.stream.topics import Member

MAX_MEMBERS = 200
"""Members that are shown, the busiest first: laying them out takes a few milliseconds."""


_NEITHER = ("-", "-")


class Sight(NamedTuple):
    """One member's counters at a time of the monotonic clock."""

    moment: float
    sent: int
    read: int


class Row(NamedTuple):
    """One member now."""

    session: LiveSession
    member: Member
    sight: Sight
    sent_rate: int
    read_rate: int


class MemberLooks(Latest):
    """The figures of a topic's members, for one reader.

    Only the topic's owner (and admins) see all members.  Others who may read or write see their
    own, and how many there are, as with `explain`.

    Raises:
        BadName: the name is not valid.
        AccessDenied: the caller may neither read nor write, whether the topic exists or not.
    """

    def __init__(
        self,
        service: Service,
        caller: Caller,
        request: Stat,
        screen: Callable[[], Screen | None] = no_screen,
    ) -> None:
        super().__init__(service, caller, screen)
        self._topic = parse_topic(request.topic, caller=caller.user)
        self._as_json = request.json
        self._before: dict[Member, Sight] | None = None
        self._check()

    def _check(self) -> None:
        if not self._service.access.sees(self._caller, self._topic):
            raise AccessDenied(f"access denied: {self._topic} is not shared with you")

    async def make(self) -> str:
        """Take the figures as they are now."""
        if self._before is None:
            self._before = {row.member: row.sight for row in await self._look({})}
            if self._before:
                await asyncio.sleep(RATE_INTERVAL_SECONDS)
        rows = await self._look(self._before)
        self._check()
        self._before = {row.member: row.sight for row in rows}
        everybody = [(row.session, row.member) for row in rows]
        holders = _holders(rows)
        if not self._owns:
            rows = [row for row in rows if row.session.caller.user == self._caller.user]
            holders = []
        rows.sort(key=_interest)
        if self._as_json:
            return _as_json(self._topic, len(everybody), rows)
        counts = counts_of(everybody)
        heading = labelled([("topic", str(self._topic)), ("members", counts)])
        return heading + _table(rows, holders)

    @property
    def _owns(self) -> bool:
        return self._caller.admin or self._topic.owner == self._caller.user

    async def _look(self, before: dict[Member, Sight]) -> list[Row]:
        service = self._service
        async with service.turnstile.turn(self._caller.user), service.listing:
            there = service.sessions_on(self._topic)
            return [
                _row(session, member, before.get(member))
                async for session, member in in_turns(there)
            ]


async def show_members(service: Service, caller: Caller, request: Stat) -> str:
    """Answer once.

    Raises:
        PipeError: see `MemberLooks`.
    """
    return await MemberLooks(service, caller, request).make()


def _row(session: LiveSession, member: Member, before: Sight | None) -> Row:
    now = Sight(time.monotonic(), member.received_bytes, member.written_bytes)
    before = before or now
    seconds = now.moment - before.moment
    return Row(
        session,
        member,
        now,
        rate(now.sent - before.sent, seconds),
        rate(now.read - before.read, seconds),
    )


def _interest(row: Row) -> tuple[bool, bool, int]:
    return not row.member.clogged, not row.member.waiting, -max(row.sent_rate, row.read_rate)


def _holders(rows: Sequence[Row]) -> list[str]:
    """The users whose readers are clogged: those that publishers wait for."""
    users = sorted({row.session.caller.user for row in rows if row.member.clogged})
    more = len(users) - MAX_NAMES
    return [*users[:MAX_NAMES], f"{more} more"] if more > 0 else users


def _table(rows: Sequence[Row], holders: Sequence[str]) -> str:
    if not rows:
        return ""
    lines = [
        (
            row.session.caller.user,
            row.member.mode.value,
            *(
                (size(row.sight.sent), f"{size(row.sent_rate)}/s")
                if row.member.source
                else _NEITHER
            ),
            *((size(row.sight.read), f"{size(row.read_rate)}/s") if row.member.sink else _NEITHER),
            _state(row.member, holders),
            escape(row.session.address),
        )
        for row in rows[:MAX_MEMBERS]
    ]
    header = ("USER", "DOES", "SENT", "RATE", "READ", "RATE", "STATE", "ADDRESS")
    hidden = len(rows) - MAX_MEMBERS
    more = f"and {count(hidden, 'member')} more\n" if hidden > 0 else ""
    return f"\n{table(header, lines, fold=7)}{more}\n"


def _state(member: Member, holders: Sequence[str]) -> str:
    if member.awaits:
        return f"waits for {count(len(member.awaits), 'reader')} to finish"
    state = state_of(member)
    return f"{state} by {listed(holders)}" if state == "held up" and holders else state


def _as_json(topic: TopicName, members: int, rows: Sequence[Row]) -> str:
    shown = [
        {
            "user": row.session.caller.user,
            "mode": row.member.mode.value,
            "address": row.session.address,
            "in_bytes": row.sight.sent,
            "out_bytes": row.sight.read,
            "in_bytes_per_second": row.sent_rate,
            "out_bytes_per_second": row.read_rate,
            "waiting_for": row.member.waiting,
            "unfinished_readers": len(row.member.awaits),
            "held_up": row.member.source is not None
            and row.member.paused
            and not (row.member.ended or row.member.waiting),
            "clogged": row.member.clogged,
            "clogged_seconds": None
            if row.member.clogged_since is None
            else round(max(0.0, row.sight.moment - row.member.clogged_since), 3),
        }
        for row in rows[:MAX_MEMBERS]
    ]
    return json.dumps({"topic": str(topic), "members": members, "sessions": shown}) + "\n"
