"""How a session comes onto a topic: what is checked, told and bound, and in which order."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pipe.commands import invitations
from pipe.language.names import parse_pattern, parse_topic, random_path
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.session.midstream import what_it_missed
from pipe.session.past import place_in_the_past, what_is_kept, what_it_gets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipe.language.names import Pattern, TopicName
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.front import Port
    from pipe.session.intake import Intake
    from pipe.session.place import Place
    from pipe.session.resume import Resumption
    from pipe.stream.topics import Member


def name_of(request: Publish | Subscribe | Pipe, caller: Caller) -> TopicName | Pattern:
    """Return what a request joins, a random topic if it names none.

    Raises:
        BadName: the name is not valid.
    """
    raw = request.topic or random_path()
    parse_name = parse_pattern if isinstance(request, Subscribe) else parse_topic
    return parse_name(raw, caller=caller.user, public=request.public)


class Newcomer(NamedTuple):
    """A session that is about to join a topic."""

    service: Service
    caller: Caller
    port: Port
    intake: Intake
    announce: Callable[[str], None]

    @contextmanager
    def joins(
        self,
        place: Place,
        member: Member,
        name: TopicName,
        request: Publish | Subscribe | Pipe,
        hints: Sequence[str],
        resumption: Resumption,
    ) -> Iterator[None]:
        """Get ready for a place that was entered; after the block, join.

        Raises:
            PipeError: the session came too late.
        """
        service, announce = self.service, self.announce
        # Whoever takes a place that was held has been there all along.
        told = [] if resumption.reader else what_it_missed(service.router, name, request)
        if isinstance(request, Subscribe):
            member.lag = place_in_the_past(service.router, name, request, resumption.reader)
            gets = what_it_gets(member.lag, name, request)
            told = gets if member.lag else [*gets, *told]
        for line in told:
            announce(line)
        self.port.bind(member)
        if isinstance(request, Subscribe):
            self.intake.drain()
        else:
            bucket = place.publish(asyncio.get_running_loop().time())
            if bucket:
                self.intake.throttle(bucket)
            self._bind_input(member, request, name, hints)
        yield
        with service.router.at_once():
            place.join(member)
            resumption.complete(service, name, member)
        for line in what_is_kept(service.router, name, request):
            announce(line)

    def _bind_input(
        self, member: Member, request: Publish | Pipe, name: TopicName, hints: Sequence[str]
    ) -> None:
        """Publish what the client sends, and tell the user how others can read it."""
        empty = isinstance(request, Publish) and request.empty
        self.intake.bind(member, request.framing, empty=empty)
        if not (isinstance(request, Publish) and request.at):  # who goes on has told them already
            for line in invitations(self.service, self.caller, request, name):
                self.announce(line)
        for line in hints:
            self.announce(line)
