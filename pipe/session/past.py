"""Where a reader begins that wants some of a topic's past, and what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import TooLate
from pipe.language.durations import format_duration
from pipe.language.requests import Subscribe
from pipe.language.sizes import format_size
from pipe.stream.history import Lag, describe

if TYPE_CHECKING:
    from pipe.language.names import TopicName
    from pipe.language.requests import Pipe, Publish
    from pipe.limits.holds import HeldReader
    from pipe.stream.history import History, Stream
    from pipe.stream.router import Router
    from pipe.stream.topics import Member


def place_in_the_past(
    router: Router, name: TopicName, request: Subscribe, held: HeldReader | None
) -> Lag | None:
    """Where a reader begins, which may take a held place; None if it wants nothing of the past.

    Raises:
        TooLate: what it wants is not there; the message says what is.
    """
    if request.last is None and request.offset is None:
        return None
    history = router.history(name)
    if history is None:
        _check_without_history(router, name, request)
        return None
    if request.offset is not None:
        lag = held.member.lag if held else None
        stream = lag.stream if lag else history.stream
        return Lag(_find_byte(history, stream, name, request), stream)
    if request.last and request.last.lines:
        position = history.ring.find_lines(request.last.amount)
    else:
        size = request.last.amount if request.last else 0
        position = max(history.ring.start, history.ring.end - size)
    return Lag(position, history.stream)


def what_it_gets(lag: Lag | None, name: TopicName, request: Subscribe) -> list[str]:
    """Return the line for a reader that begins in the past."""
    if lag is None:
        return [f"nothing is kept of {name}"] if request.last else []
    stream = lag.stream
    if lag.position < stream.start:
        return [f"begins before stream {stream.name}"]
    if not stream.numbered:
        return [f"begins in stream {stream.name}"]
    return [f"begins with byte {lag.position - stream.start} of stream {stream.name}"]


def what_is_kept(router: Router, name: TopicName, request: Publish | Subscribe | Pipe) -> list[str]:
    """Return the line for a publisher whose stream is kept, or a reader that is to be held."""
    history = router.history(name)
    if isinstance(request, Subscribe):
        return [_what_can_be_held(router, name)] if request.hold and history is None else []
    if not request.keep or history is None:
        return []
    time = f", and for {format_duration(history.linger)} after it" if history.linger else ""
    size = format_size(history.ring.bound)
    return [f"stream {history.stream.name}: its last {size} are kept{time}"]


def _what_can_be_held(router: Router, name: TopicName) -> str:
    if promised := router.promise(name):
        return f"begins with byte 0 of stream {promised}, once that comes"
    return (
        f"nothing is kept of {name}, so no place in it can be held: its publisher would need --keep"
    )


def _check_without_history(router: Router, name: TopicName, request: Subscribe) -> None:
    if request.offset is None:
        return
    begun = router.begun(name)
    if request.offset or request.stream or begun.stream_bytes or begun.pipe_bytes:
        raise TooLate(
            f"nothing is kept of {name}: there is no stream to go on with; it is over, was not"
            " kept, or the server was restarted"
            if request.offset or request.stream
            else f"nothing is kept of {name}, and its stream has begun"
        )


def _find_byte(history: History, stream: Stream, name: TopicName, request: Subscribe) -> int:
    kept, offset = history.kept_of(stream), request.offset or 0
    if request.stream and request.stream != kept.stream:
        raise TooLate(
            f"stream {request.stream} of {name} is gone: it is over, or the server was restarted"
        )
    if not kept.numbered:
        raise TooLate(
            f"the bytes of stream {kept.stream} of {name} are not numbered: what came before"
            " was not kept, or readers take turns"
        )
    if offset > kept.end:
        raise TooLate(f"byte {offset} has not come: {describe(kept)}")
    if offset < kept.first:
        raise TooLate(f"byte {offset} is kept no longer: {describe(kept)}")
    return stream.start + offset


def first_byte(member: Member) -> tuple[str, int] | None:
    """The stream, and the number in it, of what a reader was handed first; called just then."""
    history = member.topic.history if member.topic else None
    if history is None:
        return None
    stream = member.lag.stream if member.lag else history.stream
    position = member.lag.position if member.lag else history.ring.end
    number = position - member.accepted_bytes - stream.start
    return (stream.name, number) if stream.numbered and number >= 0 else None
