"""A session's place on a topic or pattern: what it takes, and what it gives back.

The right to be there, the quotas that it counts for, a share of its user's rate, and its
membership are taken in this order, and are given back together, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import UsageError
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.limits.quotas import Resource
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
    """One session's place; `enter` or `enter_pattern` comes first, then `join`, at last `leave`.

    Args:
        service: what all sessions share.
        caller: whose session it is.
        holders: whom it counts for.
    """

    def __init__(self, service: Service, caller: Caller, holders: tuple[Holder, ...]) -> None:
        self._service = service
        self._caller = caller
        self._holders = holders
        self._topic: TopicName | None = None
        self._pass: Pass | None = None
        self._pattern: tuple[Pattern, Callable[[TopicName], bool]] | None = None
        self._publishes = False
        self._left = False

    def enter(
        self, name: TopicName, request: Publish | Subscribe | Pipe, lost: Callable[[Loss], None]
    ) -> None:
        """Take the right to a topic, and a place for it where it does not exist yet.

        Args:
            name: which topic.
            request: what is wanted there.
            lost: called once that right has ended.

        Raises:
            AccessDenied: there is none.
            QuotaExceeded: one of the holders has opened as many topics as it may.
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

    def enter_pattern(self, pattern: Pattern, request: Publish | Subscribe | Pipe) -> None:
        """Take a place for a reader on a pattern.

        Raises:
            AccessDenied: the caller may do nothing any more.
            UsageError: a pattern cannot be shared with others, and its topics are not had whole.
            QuotaExceeded: the caller has as many of them as anybody may.
        """
        if isinstance(request, Subscribe) and request.whole:
            raise UsageError("--whole is for one topic, not for a pattern")
        admits = self._service.access.enter_pattern(self._caller, pattern, request.access)
        self._service.take(Resource.PATTERNS, self._holders)
        self._pattern = pattern, admits

    def publish(self, now: float) -> Bucket | None:
        """Take a share of the user's rate, at this time of the event loop; None without a limit."""
        bucket = self._service.rates.join(self._caller.user, now)
        self._publishes = bucket is not None
        return bucket

    def join(self, member: Member) -> None:
        """Be there."""
        if self._topic:
            self._service.router.join(member, self._topic)
        elif self._pattern:
            self._service.router.join_pattern(member, *self._pattern)

    def write_no_more(self) -> None:
        """The right to read is enough from now on."""
        if self._pass:
            self._pass.needs &= ~Operation.WRITE

    def leave(self, member: Member, now: float) -> None:
        """Give all back, at this time of the event loop; calling it again does nothing."""
        if self._left:
            return
        self._left = True
        if self._publishes:
            self._service.rates.leave(self._caller.user, now)
        if self._pattern:
            self._service.leave_in_turn(member, self._holders)
            return
        # At once, so that nothing reaches those who were here by this session's leave.
        with self._service.router.at_once():
            if self._pass:
                self._service.access.release(self._pass)
            self._service.router.leave(member)


def make_member(request: Publish | Subscribe | Pipe, source: Source, sink: Sink) -> Member:
    """The member that a request asks for, with those of the two ports that it uses."""
    match request:
        case Publish():
            return Member(
                Mode.PUBLISH,
                source=source,
                wants=request.min_subscribers if request.block else 0,
                whole=request.whole,
                dispatch=request.dispatch,
                exit_status=request.exit_status,
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
            )
