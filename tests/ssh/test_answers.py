"""Answers that a client does not read: when it is cut off, and when it is not."""

from __future__ import annotations

import asyncio

from pipe.errors import Ending
from pipe.ssh.answers import ANSWER_BYTES, UNNOTICED_BYTES, Answers

MANY = UNNOTICED_BYTES // ANSWER_BYTES + 1


class Scene:
    """A transport that the test fills, and what the connection was cut off for."""

    def __init__(self, most: int = 1 << 20, patience: float = 0.01) -> None:
        self.unsent = 1000
        self.cut: list[Ending] = []
        loop = asyncio.get_running_loop()
        self.answers = Answers(loop, lambda: self.unsent, self.cut.append, most, patience)

    def ask(self, count: int, *, deferred: bool = False) -> None:
        """Answer so many times, each with 10 bytes."""
        for _ in range(count):
            self.answers.add(10, deferred=deferred)


async def test_a_few_answers_may_wait() -> None:
    """Keepalives of a reader that stands are no reason."""
    scene = Scene()
    scene.ask(100)
    await asyncio.sleep(0.05)
    assert scene.cut == []


async def test_reading_nothing_ends_it() -> None:
    """Once, and not from inside the call."""
    scene = Scene(patience=0.0)
    scene.ask(MANY)
    assert scene.cut == []
    while not scene.cut:  # noqa: ASYNC110 - timers tell nobody
        await asyncio.sleep(0)
    scene.ask(MANY)
    await asyncio.sleep(0.01)
    assert scene.cut == [Ending.UNREAD]


async def test_reading_slowly_does_not() -> None:
    """Any byte that has gone is enough."""
    left = iter(range(1000, 0, -1))
    cut: list[Ending] = []
    answers = Answers(asyncio.get_running_loop(), lambda: next(left), cut.append, 1 << 20, 0.001)
    for _ in range(MANY):
        answers.add(10, deferred=False)
    while next(left) > 100:  # noqa: ASYNC110 - each look takes a byte, too
        await asyncio.sleep(0.001)
    answers.close()
    assert cut == []


async def test_too_much_unsent() -> None:
    """However few the answers are."""
    scene = Scene(most=2000)
    scene.unsent = 2001
    scene.ask(1)
    await asyncio.sleep(0)
    assert scene.cut == [Ending.OVERFLOW]


async def test_waiting_for_keys() -> None:
    """Then it is the answers that count, and not what the transport holds."""
    scene = Scene(most=100 * (ANSWER_BYTES + 10))
    scene.unsent = 1 << 30
    scene.ask(100, deferred=True)
    await asyncio.sleep(0)
    assert scene.cut == []
    scene.ask(1, deferred=True)
    await asyncio.sleep(0)
    assert scene.cut == [Ending.OVERFLOW]


async def test_nothing_unsent_is_not_unread() -> None:
    """While keys are exchanged the client has nothing to read."""
    scene = Scene(patience=0.0)
    scene.unsent = 0
    scene.ask(MANY, deferred=True)
    await asyncio.sleep(0.01)
    assert scene.cut == []
    scene.answers.close()


async def test_closed() -> None:
    """What was due does not come any more."""
    scene = Scene(most=1, patience=0.0)
    scene.ask(MANY)
    scene.answers.close()
    await asyncio.sleep(0.01)
    assert scene.cut in ([], [Ending.OVERFLOW])
