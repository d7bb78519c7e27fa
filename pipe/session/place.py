"""A session's place on a topic or pattern: what it takes, and what it gives back.

It takes the right to be there, its quotas, a share of its user's rate and its membership, in this
order, and gives them back together, once.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pipe.errors import QuotaExceeded, UsageError
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.limits.quotas import Resource
from pipe.rights.callers import next_login
from pipe.rights.grants import Operation
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.names import Pattern, TopicName
    from pipe.limits.quotas import Bucket, Holder
    from pipe.rights.access import Loss, Pass
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.stream.ports import Sink, Source

OPERATIONS = {
    Publish: Operation.WRITE,
    Subscribe: Operation.READ,
    Pipe: Operation.BOTH,
}
"""What each command that joins a topic does there."""


class Place:
    """One session's place: call `enter` or `enter_pattern`, then `join`, and finally `leave`.

    Args:
        service: what all sessions share.
        caller: whose session it is.
        holders: the user and address that it counts for.
    """

    def __init__(self, service: Service, caller: Caller, holders: tuple[Holder, ...]) -> None:
        self._service = service
        self._caller = caller
        self._holders = holders
        self._topic: TopicName | None = None
        self._pass: Pass | None = None
        self._pattern: tuple[Pattern, Callable[[TopicName], bool]] | None = None
        self._publishes = False
        self._joined = False
        self._left = False
        self._absent: Caller | None = None

    def enter(
        self, name: TopicName, request: Publish | Subscribe | Pipe, lost: Callable[[Loss], None]
    ) -> None:
        """Take the right to a topic, and count the topic if it does not exist yet.

        Args:
            name: which topic.
            request: what the session will do there.
            lost: called when the right ends.

        Raises:
            AccessDenied: the caller has no such right.
            QuotaExceeded: one of the holders has opened as many topics as it may, or its topics
                keep as much as they may.
        """
        service, self._topic = self._service, name
        self._pass = service.access.enter(
            self._caller,
            name,
            OPERATIONS[type(request)],
            request.access,
            exists=name in service.router,
            lost=lost,
        )
        service.open_topic(name, self._holders)
        if not isinstance(request, Subscribe) and request.keep:
            self._keep(name, request.keep)

    def _keep(self, name: TopicName, size: int) -> None:
        service = self._service
        try:
            service.keeping.take(name, self._caller, size)
        except QuotaExceeded as error:
            if name not in service.router:
                service.forget_topic(name)
            service.metrics.refused.labels(error.resource).inc()
            raise

    def enter_pattern(self, pattern: Pattern, request: Publish | Subscribe | Pipe) -> None:
        """Take a place for a reader on a pattern.

        Raises:
            AccessDenied: the caller may no longer do anything.
            UsageError: patterns take no access list, no ``--whole`` and nothing of the past.
            QuotaExceeded: the caller reads as many patterns as allowed.
        """
        check_pattern(request)
        admits = self._service.access.enter_pattern(self._caller)
        self._service.take(Resource.PATTERNS, self._holders)
        self._pattern = pattern, admits

    def publish(self, now: float) -> Bucket | None:
        """Take a share of the user's rate; ``now`` is loop time.  None without a limit."""
        bucket = self._service.rates.join(self._caller.user, now)
        self._publishes = bucket is not None
        return bucket

    def join(self, member: Member) -> None:
        """Join the topic or pattern."""
        self._joined = True
        if self._topic:
            self._service.router.join(member, self._topic)
        elif self._pattern:
            self._service.router.join_pattern(member, *self._pattern)

    def stand(self, lost: Callable[[Loss], None]) -> Caller:
        """Stand without the session, until `leave`.

        Args:
            lost: called when the right to be there ends.

        Returns:
            The caller, with a login of its own: that of the client ends with its connection, but
            what it came by may still be taken away, or come to its end.
        """
        if self._pass:
            self._pass.lost = lost
        self._absent = dataclasses.replace(self._caller, login=next_login())
        self._service.access.logged_in(self._absent)
        return self._absent

    def write_no_more(self) -> None:
        """Need only the right to read from now on."""
        if self._pass:
            self._pass.needs &= ~Operation.WRITE

    def leave(self, member: Member, now: float) -> None:
        """Give everything back; ``now`` is loop time.  Calling this again does nothing."""
        if self._left:
            return
        self._left = True
        if self._absent:
            self._service.access.logged_out(self._absent)
        if self._publishes:
            self._service.rates.leave(self._caller.user, now)
        if self._pattern:
            self._service.leave_in_turn(member, self._holders)
            return
        # In one step, so that nothing reaches the members that this session let in.
        with self._service.router.at_once():
            if self._pass:
                self._service.access.release(self._pass)
            self._service.router.leave(member)
        if self._topic and not self._joined and self._topic not in self._service.router:
            self._service.forget_topic(self._topic)  # it was counted, and never opened


def check_pattern(request: Publish | Subscribe | Pipe) -> None:
    """Refuse what a reader on a pattern cannot have.

    Raises:
        UsageError: it asks for the whole stream or for something of the past, or has a list.
    """
    if request.access is not None:
        raise UsageError("--access is for one topic, not for a pattern")
    if isinstance(request, Subscribe) and request.whole:
        raise UsageError("--whole is for one topic, not for a pattern")
    if isinstance(request, Subscribe) and (request.last or request.offset is not None):
        raise UsageError("--last and --from are for one topic, not for a pattern")
    if isinstance(request, Subscribe) and request.hold:
        raise UsageError("--hold is for one topic, not for a pattern")


def make_member(request: Publish | Subscribe | Pipe, source: Source, sink: Sink) -> Member:
    """Make the member that a request asks for, with the ports that it uses."""
    match request:
        case Publish():
            return Member(
                Mode.PUBLISH,
                source=source,
                wants=request.min_subscribers if request.block else 0,
                whole=request.whole,
                dispatch=request.dispatch,
                exit_status=request.exit_status,
                keep=request.keep,
                linger=request.linger,
                at=request.at or 0,
            )
        case Subscribe():
            return Member(
                Mode.SUBSCRIBE,
                sink=sink,
                keep_alive=request.keep_alive,
                on_slow=request.on_slow,
            )
        case Pipe():
            return Member(
                Mode.PIPE,
                source=source,
                sink=sink,
                dispatch=request.dispatch,
                replay=request.replay,
                on_slow=request.on_slow,
                keep=request.keep,
                linger=request.linger,
            )
