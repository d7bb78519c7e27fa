"""What workers ask each other: requests whose answer all of them have a part of."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from pipe.commands.ls import tell_others
from pipe.elsewhere import Errand
from pipe.errors import PipeError, Unreachable
from pipe.events.dedupe import Sighting
from pipe.events.logs.forwarding import OwnLines
from pipe.language.names import parse_topic
from pipe.language.requests import List
from pipe.mesh.asking import wait_answer
from pipe.mesh.errands import read_errand, write_errand
from pipe.mesh.frames import BadFrame
from pipe.mesh.home import FarFront
from pipe.session.draining import bytes_of_stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.events.once import Matter
    from pipe.language.names import TopicName
    from pipe.language.requests import Request
    from pipe.mesh.edge import EdgeEnd
    from pipe.rights.callers import Caller
    from pipe.service import Service


_FIELDS = TypeAdapter(dict[str, Any])
_DEALT = TypeAdapter(bool)
_HOLD: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(ge=0, allow_inf_nan=False)])
_RESULT: TypeAdapter[tuple[bool, int | None]] = TypeAdapter(tuple[bool, int | None])
_NUMBERS = TypeAdapter(list[int])
_MOVED: TypeAdapter[list[tuple[int, int | None]]] = TypeAdapter(list[tuple[int, int | None]])

_Answer = TypeVar("_Answer")


def write_question(request: Request, caller: Caller) -> str:
    """Write a request whose answer only text goes into: who asks, and for what."""
    return write_errand(Errand(request, caller, "", (), (), None, "\n", {})).decode()


async def answer_question(service: Service, question: str) -> str:
    """Answer for this worker.

    Raises:
        BadFrame: it is no question.
        PipeError: the caller may not know.
    """
    errand = read_errand(memoryview(question.encode()))
    request = errand.request
    if isinstance(request, List):
        return await tell_others(service, errand.caller, request.pattern)
    raise BadFrame(f"not a question: {type(request).__name__}")


_MATTERS: dict[str, TypeAdapter[Any]] = {
    matter.__name__: TypeAdapter(matter) for matter in (Sighting, OwnLines)
}


def write_matter(matter: Matter) -> str:
    """Write what the first worker is to deal with."""
    return json.dumps({"matter": type(matter).__name__, "facts": matter})


def read_matter(question: str) -> Matter | None:
    """Read it, if it is one.

    Raises:
        BadFrame: it cannot be read.
    """
    fields = _fields_of(question)
    if "matter" not in fields:
        return None
    try:
        found: Matter = _MATTERS[fields["matter"]].validate_python(fields["facts"])
    except (ValueError, TypeError, KeyError) as error:
        raise BadFrame(f"a matter that cannot be read: {error}") from None
    return found


class Notice(NamedTuple):
    """A short stream of the server's own, for whoever reads its topic in another worker."""

    topic: TopicName
    data: bytes
    hold: float


def write_notice(notice: Notice) -> str:
    """Write one."""
    data = base64.b64encode(notice.data).decode()
    return json.dumps({"topic": str(notice.topic), "data": data, "hold": notice.hold})


def read_notice(question: str) -> Notice | None:
    """Read one, if it is one.

    Raises:
        BadFrame: it cannot be read.
    """
    fields = _fields_of(question)
    if "data" not in fields:
        return None
    try:
        topic = parse_topic(fields["topic"], caller="")
        data, hold = base64.b64decode(fields["data"]), _HOLD.validate_python(fields["hold"])
        return Notice(topic, data, hold)
    except (ValueError, TypeError, KeyError, PipeError) as error:
        raise BadFrame(f"a notice that cannot be read: {error}") from None


def announce_here(service: Service, notice: Notice) -> str:
    """Publish one, and say whether there was room, and how many read it if it was sent at once."""
    readers: list[int] = []

    def admit(count: int) -> bool:
        readers.append(count)
        return True

    taken = service.announcer.announce(notice.topic, notice.data, notice.hold, admit)
    return json.dumps([taken, readers[0] if readers else None])


def write_streams(numbers: list[int]) -> str:
    """Ask how the streams of these sessions of a link move."""
    return json.dumps({"streams": numbers})


def read_streams(question: str) -> list[int] | None:
    """Read that, if it is asked.

    Raises:
        BadFrame: it cannot be read.
    """
    fields = _fields_of(question)
    if "streams" not in fields:
        return None
    try:
        return _NUMBERS.validate_python(fields["streams"])
    except ValidationError:
        raise BadFrame("sessions that cannot be read") from None


def tell_streams(service: Service, fronts: Mapping[int, object], numbers: list[int]) -> str:
    """Say it, but of those that are about to end by themselves."""
    found: list[tuple[int, int | None]] = []
    for number in numbers:
        front = fronts.get(number)
        session = front.session if isinstance(front, FarFront) else None
        if session is None:
            continue
        member = session.member
        if member and member.joined:
            found.append((number, bytes_of_stream(service.router, member)))
        elif session.follows:
            found.append((number, None))
    return json.dumps(found)


async def look_at_streams(end: EdgeEnd) -> None:
    """Have the other end of a link tell how the streams of its sessions move, if it does."""
    answer = await wait_answer(end, write_streams(end.numbers))
    if answer is None:
        return
    with contextlib.suppress(Unreachable):  # what makes no sense tells nothing
        for number, count in _read(_MOVED, answer):
            end.stream_moved(number, count)


def read_result(answer: str) -> tuple[bool, int | None]:
    """Read what `announce_here` says.

    Raises:
        Unreachable: it makes no sense.
    """
    return _read(_RESULT, answer)


def read_dealt(answer: str) -> bool:
    """Read what the first worker says.

    Raises:
        Unreachable: it makes no sense.
    """
    return _read(_DEALT, answer)


def _fields_of(question: str) -> dict[str, Any]:
    try:
        return _FIELDS.validate_json(question)
    except ValidationError:
        raise BadFrame("a question that cannot be read") from None


def _read(kind: TypeAdapter[_Answer], answer: str) -> _Answer:
    try:
        return kind.validate_json(answer)
    except ValidationError:
        raise Unreachable("another worker has answered what makes no sense: try again") from None
