"""What workers ask each other: requests whose answer all of them have a part of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.ls import tell_others
from pipe.elsewhere import Errand
from pipe.language.requests import List
from pipe.mesh.errands import read_errand, write_errand
from pipe.mesh.frames import BadFrame

if TYPE_CHECKING:
    from pipe.language.requests import Request
    from pipe.rights.callers import Caller
    from pipe.service import Service


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
