"""Steps within the budget of a turn: on the spot while there is time, else in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from pipe.limits.turns import BUDGET_SECONDS, Turns

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """Keeps what is to be called in the next turn, and what went wrong."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []
        self.errors: list[BaseException] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Remember it."""
        self.due.append(callback)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remember what failed."""
        self.errors.append(context["exception"])

    def turn(self) -> None:
        """Call what there is now."""
        due, self.due = self.due, []
        for callback in due:
            callback()


class Connection:
    """A connection that always has more to do."""

    share_seconds = BUDGET_SECONDS / 100

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.granted = 0
        turns.queue(self)

    def take_turn(self) -> bool:
        """Handle a share at once."""
        self.granted += 1
        self.turns.queue(self)
        return False


class Scene:
    """A loop, its turns, and steps of which each takes a fourth of a turn."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.turns = Turns(cast("asyncio.AbstractEventLoop", self.loop))
        self.done: list[str] = []

    def step(self, name: str) -> Callable[[], None]:
        """A step that leaves its name."""

        def take() -> None:
            self.turns.use(BUDGET_SECONDS / 4)
            self.done.append(name)

        return take

    def do(self, *names: str) -> None:
        """Hand such steps in."""
        for name in names:
            self.turns.do(self.step(name))

    @property
    def text(self) -> str:
        """What was done so far."""
        return "".join(self.done)


@pytest.fixture
def scene() -> Scene:
    """Nothing has been done yet."""
    return Scene()


def test_steps_are_taken_on_the_spot_while_there_is_time(scene: Scene) -> None:
    """Four fit into the turn; the others queue, and come in their order, as many as fit."""
    scene.do(*"abcdefghij")
    assert scene.text == "abcd"
    scene.loop.turn()
    assert scene.text == "abcdefgh"
    scene.loop.turn()
    assert scene.text == "abcdefghij"
    scene.loop.turn()
    assert not scene.loop.due


def test_nobody_passes_those_who_queue(scene: Scene) -> None:
    """A turn that has time left does not let a newcomer in before them."""
    scene.turns.use(BUDGET_SECONDS)
    scene.do("a")
    scene.turns._used = 0.0  # noqa: SLF001 - as if the turn had just begun
    scene.do("b")
    assert scene.text == ""
    scene.loop.turn()
    assert scene.text == "ab"


def test_step_goes_on_until_it_has_no_more(scene: Scene) -> None:
    """One that has more is taken again, behind those that queue by then."""
    left = 3

    def take() -> bool:
        nonlocal left
        scene.step(str(left))()
        left -= 1
        return left > 0

    scene.turns.use(BUDGET_SECONDS)
    scene.turns.do(take)
    scene.do("a", "b")
    scene.loop.turn()
    scene.loop.turn()
    assert scene.text == "3ab21"


def test_step_within_a_step_comes_after_it(scene: Scene) -> None:
    """Steps do not nest, however they come to be handed in."""

    def outer() -> None:
        scene.do("inner")
        scene.step("outer ")()

    scene.turns.do(outer)
    assert scene.text == "outer inner"


def test_step_that_fails_keeps_nobody_from_theirs(scene: Scene) -> None:
    """The loop hears of it, and the others are taken."""

    def fail() -> None:
        raise ValueError

    scene.turns.use(BUDGET_SECONDS)
    scene.turns.do(fail)
    scene.do("a")
    scene.loop.turn()
    assert scene.text == "a"
    assert [type(error) for error in scene.loop.errors] == [ValueError]


def test_what_comes_of_a_step_is_written_after_it(scene: Scene) -> None:
    """It is part of what the step takes."""
    scene.turns.written = scene.step("!")
    scene.do(*"abcd")
    assert scene.text == "a!b!"
    scene.loop.turn()
    assert scene.text == "a!b!c!d!"


def test_time_within_a_span_counts_once(scene: Scene) -> None:
    """A connection that handles input counts its time, with that of the steps that came of it."""
    before = scene.turns.used
    scene.do("a")
    within = scene.turns.used - before
    scene.turns.use(within, before)
    assert scene.turns.used - before == pytest.approx(within)


def test_connection_is_served_once_in_a_turn(scene: Scene) -> None:
    """One that queues again waits for the next turn, and steps do not wait for it."""
    connection = Connection(scene.turns)
    scene.do("a")
    for count in (1, 2, 3):
        scene.loop.turn()
        assert connection.granted == count
    assert scene.text == "a"


def test_nothing_is_left_undone_at_the_end(scene: Scene) -> None:
    """All steps are taken before the loop stops, also those that come of others."""
    connection = Connection(scene.turns)
    scene.turns.use(BUDGET_SECONDS)
    scene.do(*"abcdefghij")
    scene.turns.do(lambda: scene.do("k"))
    scene.turns.finish()
    assert scene.text == "abcdefghijk"
    assert connection.granted > 0


async def test_turns_of_the_running_loop() -> None:
    """Where no loop is given it is the one that runs when steps are handed in."""
    turns, done = Turns(), list[int]()
    turns.use(BUDGET_SECONDS)
    turns.do(lambda: done.append(1))
    assert not done
    while not done:  # noqa: ASYNC110 - a turn tells nobody
        await asyncio.sleep(0)
    assert done == [1]
