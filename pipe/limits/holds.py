"""Streams whose publisher's connection was lost: they stand for a while, so that it can go on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.names import TopicName
    from pipe.rights.callers import Caller


@dataclass(frozen=True, slots=True)
class Held:
    """One of them.

    ``taken`` counts its bytes that readers have been given.  ``leave`` takes the absent publisher
    off the topic: broken, unless another session goes on with the stream.
    """

    caller: Caller
    taken: int
    leave: Callable[[bool], None]


class Holds:
    """All of them, at most one of a topic."""

    def __init__(self) -> None:
        self._held: dict[TopicName, tuple[Held, asyncio.TimerHandle]] = {}

    def __contains__(self, name: TopicName) -> bool:
        return name in self._held

    def hold(self, name: TopicName, held: Held, seconds: float) -> None:
        """Hold a stream for so long, then let it break."""
        timer = asyncio.get_running_loop().call_later(seconds, self.drop, name)
        self._held[name] = held, timer

    def of(self, name: TopicName, user: str) -> Held | None:
        """A user's own stream on a topic, if it is held."""
        held, _ = self._held.get(name, (None, None))
        return held if held and held.caller.user == user else None

    def drop(self, name: TopicName, *, broken: bool = True) -> None:
        """End a hold; do nothing if there is none."""
        if name in self._held:
            held, timer = self._held.pop(name)
            timer.cancel()
            held.leave(broken)

    def forget(self, is_gone: Callable[[Caller], object]) -> None:
        """Break what belongs to callers who are gone."""
        for name, (held, _) in list(self._held.items()):
            if is_gone(held.caller):
                self.drop(name)

    def close(self) -> None:
        """Break all, as the server stops."""
        for name in list(self._held):
            self.drop(name)
