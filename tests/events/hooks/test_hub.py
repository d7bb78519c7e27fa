"""Deliveries of which other workers have a part."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipe.events.hooks.deliveries import Result
from pipe.events.hooks.hub import Hooks, Post
from pipe.language.hook_requests import HookKind
from pipe.store.hooks import Hook

if TYPE_CHECKING:
    from pipe.events.dedupe import Sighting
    from pipe.language.names import TopicName

SPACE = Hook(
    id="a" * 12,
    user="alice",
    owner="alice",
    path="",
    kind=HookKind.DISTRIBUTION,
    secret="",
    hold=0.0,
    name="",
    created=0.0,
    used=0.0,
    admin=False,
)


class World:
    """What hooks need of everybody else."""

    def __init__(self, *, away: str = "") -> None:
        self.away = away  # the topic whose worker does not answer
        self.asked: list[str] = []
        self.goes_on = asyncio.Event()
        self.all_asked = asyncio.Event()
        self.wanted = 0
        self.lines: Counter[str] = Counter()
        access: Any = SimpleNamespace(
            why_barred=lambda _: "", decide=lambda *_: SimpleNamespace(allowed=True)
        )
        store: Any = SimpleNamespace(note_use=lambda *_: None)
        self.hooks = Hooks(
            store, access, self.announce, self.is_new, lambda *_: None, lambda *_, **__: None
        )

    async def is_new(self, sighting: Sighting) -> bool:
        """Answer once everything has been asked."""
        self.asked.append(sighting.text)
        if len(self.asked) >= self.wanted:
            self.all_asked.set()
        await self.goes_on.wait()
        return True

    async def announce(self, topic: TopicName, data: bytes, hold: float, admit: Any) -> bool | None:  # noqa: ANN401, ARG002
        """Publish, unless the topic's worker does not answer."""
        self.lines[str(topic)] += 1
        if str(topic) == self.away:
            return None
        return bool(admit(1))

    async def deliver(self, *pushes: tuple[str, str]) -> Result:
        """Deliver that images were pushed under tags, and return what came of it."""
        events = [
            {"action": "push", "id": f"{number}", "target": {"repository": name, "tag": tag}}
            for number, (name, tag) in enumerate(pushes)
        ]
        post = Post({}, json.dumps({"events": events}).encode(), "")
        await self.hooks.deliver(SPACE, post, 0.0, 0.0)
        return self.hooks.deliveries.of(SPACE.id)[0].result


async def test_all_are_asked_about_at_once() -> None:
    """A worker that answers late is waited for once, not once for each event."""
    world = World()
    world.wanted = 3
    delivering = asyncio.ensure_future(world.deliver(("a", "1"), ("a", "2"), ("b", "1")))
    await world.all_asked.wait()
    assert len(world.asked) == 3
    assert not world.lines
    world.goes_on.set()
    assert await delivering is Result.PUBLISHED
    assert world.lines == {"alice/a:1": 1, "alice/a:2": 1, "alice/b:1": 1}


@pytest.mark.parametrize("count", [1, 5])
async def test_worker_that_does_not_answer(count: int) -> None:
    """What may be published or not is said so; its topic is tried once, others all the same."""
    world = World(away="alice/a:1")
    world.goes_on.set()
    result = await world.deliver(*[("a", "1")] * count, ("b", "1"))
    assert result is Result.UNANSWERED
    assert world.lines == {"alice/a:1": 1, "alice/b:1": 1}
    (delivery,) = world.hooks.deliveries.of(SPACE.id)
    assert (delivery.events, delivery.readers) == (1, 1)
    assert delivery.result.is_trouble
