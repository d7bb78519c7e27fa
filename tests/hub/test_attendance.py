"""Who stands still is noticed, and has no duties when it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipe.hub import attendance
from pipe.hub.attendance import LEASE_SECONDS, PATIENCE_SECONDS, Attendance
from pipe.hub.channel import Lost
from pipe.hub.crew import LAY_DOWN_SECONDS, Worker
from pipe.hub.serve import Hub
from pipe.mesh.directory import WorkerId
from pipe.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


class Channel:
    """A way to a worker that answers when it may."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[bool] = asyncio.Queue()

    def send(self, message: dict[str, Any]) -> None:
        """Nobody is asked."""

    async def ask(self, message: dict[str, Any], *, patience: float | None = None) -> bool:
        """Ask, and wait for the answer."""
        self.asked.put_nowait(message)
        try:
            async with asyncio.timeout(patience):
                if not await self.answers.get():
                    raise Lost
        except TimeoutError:
            raise Lost from None
        return True


def worker(number: int) -> Any:  # noqa: ANN401
    """A worker that is ready."""
    process: Any = SimpleNamespace(pid=1)
    found: Any = Worker(WorkerId("", number, number), process)
    found.ready.set_result(None)
    found.channel = Channel()
    return found


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(attendance, "LOOK_SECONDS", 0.0)


def test_nobody_is_asked_before_the_last_ones_time_is_over() -> None:
    """Duties go on no sooner than a worker that stands still would leave them alone."""
    assert LEASE_SECONDS < LAY_DOWN_SECONDS < PATIENCE_SECONDS


async def test_worker_that_stands_still() -> None:
    """It is noticed once, nothing more is asked, and so is that it goes on, until it ends."""
    one = worker(1)
    changes: asyncio.Queue[bool] = asyncio.Queue()
    watching = asyncio.ensure_future(
        Attendance(lambda _: True, lambda _: changes.put_nowait(one.still)).watch(one)
    )
    assert await changes.get()
    assert (await one.channel.asked.get())["until"] > 0
    assert one.channel.asked.empty()
    one.channel.answers.put_nowait(True)
    assert not await changes.get()
    await one.channel.asked.get()
    one.channel.answers.put_nowait(False)  # it has ended
    await watching


@contextlib.contextmanager
def hub_of(*workers: Any) -> Iterator[Any]:  # noqa: ANN401
    """A hub with these workers, as far as their duties need one."""
    hub: Any = Hub(Settings(workers=len(workers)))
    hub._crew = SimpleNamespace(  # noqa: SLF001
        serving=list(workers), workers={one.ident: one for one in workers}, stop=lambda: None
    )
    hub._reception = SimpleNamespace(place_early=lambda: None)  # noqa: SLF001
    hub.tell_of_peers = lambda: None
    yield hub
    for task in hub._tasks:  # noqa: SLF001
        task.cancel()


async def test_duties_of_one_that_stands_still() -> None:
    """The next one is told to take them; the first is told to lay them down, and gets none back."""
    first, second = worker(1), worker(2)
    with hub_of(first, second) as hub:
        hub._leader = first  # noqa: SLF001
        hub.stands_still(first)
        assert (await second.channel.asked.get())["type"] == "lead"
        assert (await first.channel.asked.get())["type"] == "lay down"
        assert hub._leads(second)  # noqa: SLF001
        first.still = False
        hub._attends(first)  # noqa: SLF001
        assert hub._leader is second  # noqa: SLF001


async def test_one_that_stands_still_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not answer to the order is passed over, in bounded time."""
    monkeypatch.setattr("pipe.hub.serve.PATIENCE_SECONDS", 0.01)
    first, second = worker(1), worker(2)
    second.channel.answers.put_nowait(True)
    with hub_of(first, second) as hub:
        hub._elect()  # noqa: SLF001
        assert (await first.channel.asked.get())["type"] == "lead"
        assert (await second.channel.asked.get())["type"] == "lead"
        assert (await first.channel.asked.get())["type"] == "lay down"
        assert (first.still, second.still) == (True, False)


async def test_all_stand_still() -> None:
    """The first that goes on has the duties."""
    first, second = worker(1), worker(2)
    with hub_of(first, second) as hub:
        hub._leader = first  # noqa: SLF001
        second.still = True
        hub.stands_still(first)
        assert hub._leader is None  # noqa: SLF001
        second.still = False
        hub._attends(second)  # noqa: SLF001
        assert (await second.channel.asked.get())["type"] == "lead"


async def test_hub_that_ends_while_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is gone meanwhile is no error that nobody has looked at."""
    monkeypatch.setattr(attendance, "PATIENCE_SECONDS", 60.0)
    one = worker(1)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    watching = asyncio.ensure_future(Attendance(lambda _: False, lambda _: None).watch(one))
    await one.channel.asked.get()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    one.channel.answers.put_nowait(False)
    while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - nobody has the one that asks
        await asyncio.sleep(0)
    gc.collect()
    assert not complaints
