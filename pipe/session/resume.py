"""How a client whose connection was lost goes on where it was.

With ``pub --hold`` the stream stands when its connection is lost: readers wait, as its member stays
on the topic without a client.  Another session of the same user takes its place with ``--at``, if
that names the byte that comes next.

With ``sub --hold`` the reader's member stays, and publishers are paused before the ring passes what
its client may lack.  Another session of the same user takes its place with ``--from``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from pipe.errors import TooLate
from pipe.language.requests import Publish, Subscribe
from pipe.limits.holds import Ended, Held, HeldReader
from pipe.session.stall import StallClock
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import PipeError
    from pipe.language.names import TopicName
    from pipe.language.requests import Pipe, Request
    from pipe.rights.access import Loss
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.intake import Intake
    from pipe.session.place import Place
    from pipe.stream.chunks import Chunk
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


class _Surplus:
    """What a publisher sends behind the end of its stream: nothing, as that has ended.

    Args:
        fail: called with what is wrong if there is something.
    """

    def __init__(self, fail: Callable[[PipeError], None]) -> None:
        self._fail = fail

    def publish(self, member: Member, chunk: Chunk) -> None:  # noqa: ARG002
        """Refuse it."""
        self._fail(TooLate("this stream has ended there: nothing can follow"))

    def deal(self, member: Member, records: Chunk, separator: bytes) -> int:  # noqa: ARG002
        """Refuse it."""
        self.publish(member, records)
        return 0

    def end(self, member: Member) -> None:
        """That is as it should be."""


class _Awaiting(Absent):
    """The same of one that has ended, and waits for its receipt."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended

    def finish(self, receipt: Receipt) -> None:
        """Here it is."""
        self._ended.finish(receipt)


class Resumption(NamedTuple):
    """Whose place a session takes: that of a publisher, of a reader, or nobody's.

    ``ended`` is that of a publisher that has sent everything, so that only its receipt is due.
    ``goes_on`` says that it is a reader which has a part of the stream.
    """

    publisher: bool = False
    ended: Ended | None = None
    reader: HeldReader | None = None
    goes_on: bool = False

    def await_receipt(
        self,
        intake: Intake,
        member: Member,
        fail: Callable[[PipeError], None],
        finish: Callable[[Receipt], None],
    ) -> bool:
        """Have the receipt of a stream that has ended told, and return whether it is one."""
        if self.ended is None:
            return False
        intake.collect(_Surplus(fail))
        member.at = self.ended.at
        self.ended.listen(finish)
        return True

    def complete(self, service: Service, name: TopicName, member: Member) -> None:
        """Take it, together with the join of the member that goes on."""
        if self.publisher:
            service.holds.drop(name, broken=False)
        if self.goes_on and member.lag:
            member.began = member.lag.position
        if self.reader:
            service.router.hand_on(self.reader.member, member)
            service.holds.drop_reader(name, self.reader)


def hold_place(
    service: Service,
    caller: Caller,
    request: Request | None,
    place: Place,
    member: Member,
    receipt: Receipt | None = None,
) -> bool:
    """Let a place stand without its client, and return whether that is so.

    Args:
        service: keeps it.
        caller: whose it is.
        request: what its client asked for; only who asked to be held is.
        place: where it is.
        member: who it is there.
        receipt: that of a publisher, if it has come and nobody is there to take it.
    """
    topic = member.topic
    if topic is None or not isinstance(request, (Publish, Subscribe)) or not request.hold:
        return False
    if member.ended and member.mode is Mode.PUBLISH:
        ended = _keep_receipt(service, topic.name, request.hold, place, member)
        if receipt:
            ended.finish(receipt)
        return True
    if isinstance(request, Publish):
        return _hold_publisher(service, topic.name, request.hold, place, member)
    return _hold_reader(service, caller, topic.name, request.hold, place, member)


def _hold_publisher(
    service: Service,
    name: TopicName,
    seconds: float,
    place: Place,
    member: Member,
) -> bool:
    if name in service.holds:
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
    member.end_held = False  # what came before that end was not published
    caller = place.stand(lost)
    service.holds.hold(name, Held(caller, member.at + member.received_bytes, leave), seconds)
    return True


def _keep_receipt(
    service: Service,
    name: TopicName,
    seconds: float,
    place: Place,
    member: Member,
) -> Ended:
    loop = asyncio.get_running_loop()

    def lost(_: Loss) -> None:
        service.holds.drop_ended(name)

    caller = place.stand(lost)
    ended = Ended(
        caller, member.at, member.received_bytes, lambda: place.leave(member, loop.time())
    )
    member.source = _Awaiting(ended)
    service.holds.hold_ended(name, ended, seconds)
    return ended


def _hold_reader(
    service: Service,
    caller: Caller,
    name: TopicName,
    seconds: float,
    place: Place,
    member: Member,
) -> bool:
    """Hold a reader's place.

    Other readers that wait for it do so no longer than for one that is slow (law 4), unless the
    topic is its user's own: a guest cannot stop a topic by going away.
    """
    if member.confirmed or not service.holds.may_hold_reader(caller.user):
        return False
    loop = asyncio.get_running_loop()

    held: HeldReader | None = None

    def drop(_: Loss | None = None) -> None:
        if held:
            service.holds.drop_reader(name, held)

    def leave() -> None:
        clock.stop()
        place.leave(member, loop.time())

    def waited_for(others: bool) -> None:
        if others and name.owner != caller.user:
            clock.start()
        else:
            clock.stop()

    clock = StallClock(service.settings.stall_timeout, progress=lambda: 0, stalled=drop)
    if not service.router.set_aside(member, waited_for):
        return False
    held = HeldReader(place.stand(drop), member, leave)
    service.holds.hold_reader(name, held, seconds)
    return True


def find_resumption(
    service: Service, caller: Caller, name: TopicName, request: Publish | Subscribe | Pipe
) -> Resumption:
    """Find the place that a session is to take.

    Raises:
        TooLate: a publisher has none, or it goes on with another byte.
    """
    if isinstance(request, Publish):
        return _find_publisher(service, caller, name, request)
    if isinstance(request, Subscribe) and request.offset is not None:
        reader = _find_reader(service, caller, name, request)
        return Resumption(reader=reader, goes_on=request.offset > 0)
    return Resumption()


def _find_publisher(
    service: Service, caller: Caller, name: TopicName, request: Publish
) -> Resumption:
    if request.at is None:
        return Resumption()
    for session, member in service.sessions_on(name):
        own = member.mode is Mode.PUBLISH and session.caller.user == caller.user
        if own and request.at and member.at + member.received_bytes == request.at:
            session.hand_over()  # its connection may be dead, and the server not know yet
    held = service.holds.of(name, caller.user)
    ended = service.holds.ended(name, caller.user)
    if held is None and ended and ended.total == request.at:
        return Resumption(ended=ended)
    if held is None and not request.at:
        return Resumption()
    if held is None:
        raise TooLate(
            f"no stream of yours is held on {name} at byte {request.at}: its time is over, it was"
            " not held, or the server was restarted"
        )
    if held.taken != request.at:
        raise TooLate(f"the stream on {name} goes on with byte {held.taken}, not {request.at}")
    return Resumption(publisher=True)


def _find_reader(
    service: Service, caller: Caller, name: TopicName, request: Subscribe
) -> HeldReader | None:
    """Of the places from which one can get to that byte, the one that is nearest."""
    found: HeldReader | None = None
    nearest = -1
    for held in service.holds.readers_of(name, caller.user):
        lag = held.member.lag
        if lag is None or request.offset is None or request.stream not in {None, lag.stream.name}:
            continue
        begin = lag.position - lag.stream.start
        if nearest < begin <= request.offset:
            found, nearest = held, begin
    return found
