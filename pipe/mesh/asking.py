"""Asking other workers, and waiting for what they say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pipe.elsewhere import Answers
from pipe.mesh.frames import Kind
from pipe.mesh.home import in_pieces
from pipe.mesh.link import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.edge import EdgeEnd
    from pipe.mesh.home import HomeEnd
    from pipe.mesh.link import Link

ASK_SECONDS = 1.0
"""How long a question to other workers may take; who has not answered by then is named."""


async def ask_all(
    workers: Iterable[WorkerId], ask: Callable[[WorkerId], Awaitable[str | None]]
) -> Answers:
    """Ask several workers at once; who cannot answer within `ASK_SECONDS` is missing.

    Args:
        workers: whom.
        ask: asks one of them, as `wait_answer` does.
    """
    asked = {worker: asyncio.ensure_future(ask(worker)) for worker in workers}
    try:
        if asked:
            await asyncio.wait(asked.values(), timeout=ASK_SECONDS)
    finally:
        for task in asked.values():
            task.cancel()
    answers = {worker: _result_of(task) for worker, task in asked.items()}
    found = [text for text in answers.values() if text is not None]
    return Answers(found, [str(worker) for worker, text in answers.items() if text is None])


async def wait_answer(end: EdgeEnd, question: str) -> str | None:
    """Ask over a link; None if it ends, or nobody answers within `ASK_SECONDS`."""
    answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def answered(text: str | None) -> None:
        if not answer.done():
            answer.set_result(text)

    forget = end.ask(question, answered)
    try:
        return await asyncio.wait_for(answer, ASK_SECONDS)
    except TimeoutError:
        return None
    finally:
        forget()


async def wait_greeting(link: Link, answered: asyncio.Event) -> None:
    """Wait until the other worker has answered on a new link, or it has ended; end it in time."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await answered.wait()
    except TimeoutError:
        link.fail(f"it has not answered within {PATIENCE_SECONDS:g} s")


def send_answer(end: HomeEnd, number: int, answer: str) -> None:
    """Answer a question that came over a link."""
    for last, piece in in_pieces(answer):
        end.link.send(Kind.ANSWERED, number, bytes((last,)), piece)


def _result_of(task: asyncio.Future[str | None]) -> str | None:
    """What a worker has answered; None if it has not, or could not be reached."""
    if not task.done() or task.cancelled() or task.exception():
        return None
    return task.result()
