"""Places of clients whose connection was lost: they stand for a while, so that one can go on there.

A publisher's place is its stream: its readers wait.  A reader's is the first byte that it may lack:
publishers wait before the topic's ring would pass it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pipe.language.names import TopicName
    from pipe.rights.callers import Caller
    from pipe.stream.ports import Receipt
    from pipe.stream.topics import Member

MAX_READERS_PER_USER = 100
"""Readers of a user that are held at once: each takes some KiB, and all stand still for free."""


@dataclass(frozen=True, slots=True)
class Held:
    """A publisher's place.

    ``taken`` counts its bytes that readers have been given.  ``leave`` takes the absent publisher
    off the topic: broken, unless another session goes on with the stream.
    """

    caller: Caller
    taken: int
    leave: Callable[[bool], None]


@dataclass(frozen=True, slots=True, eq=False)
class HeldReader:
    """A reader's place.  ``leave`` gives it up; after another took it, that does nothing more."""

    caller: Caller
    member: Member
    leave: Callable[[], None]


class Ended:
    """The place of a publisher that has sent everything: what is due is its receipt.

    Args:
        caller: whose it was.
        at: at which byte of its stream it began.
        sent: how many bytes it has sent since.
        leave: takes it off the topic; nothing more happens once its receipt is there.
    """

    def __init__(self, caller: Caller, at: int, sent: int, leave: Callable[[], None]) -> None:
        self.caller = caller
        self.at = at
        self.total = at + sent
        self.leave = leave
        self._receipt: Receipt | None = None
        self._listener: Callable[[Receipt], None] | None = None

    def finish(self, receipt: Receipt) -> None:
        """Keep the receipt for whoever asks, and tell who has asked."""
        self._receipt = receipt
        if self._listener:
            self._listener(receipt)
        self.leave()

    def listen(self, listener: Callable[[Receipt], None]) -> None:
        """Tell the receipt to this one, now or once it is there, and to nobody else."""
        self._listener = listener
        if self._receipt:
            listener(self._receipt)


class Holds:
    """All of them: of a topic at most one publisher's, and one of its user's that has ended.

    Args:
        forgotten: called with a topic when a receipt is kept no longer.
    """

    def __init__(self, forgotten: Callable[[TopicName], None] = lambda _: None) -> None:
        self._forgotten = forgotten
        self._held: dict[TopicName, tuple[Held, asyncio.TimerHandle]] = {}
        self._ended: dict[TopicName, tuple[Ended, asyncio.TimerHandle]] = {}
        self._readers: dict[TopicName, dict[HeldReader, asyncio.TimerHandle]] = {}
        self._counts: Counter[str] = Counter()  # of readers, by user

    def __contains__(self, name: TopicName) -> bool:
        return name in self._held

    # -- publishers -------------------------------------------------------------------------------

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

    def hold_ended(self, name: TopicName, ended: Ended, seconds: float) -> None:
        """Keep the receipt of a stream that has ended; only that of the last one is kept."""
        self.drop_ended(name)
        timer = asyncio.get_running_loop().call_later(seconds, self.drop_ended, name)
        self._ended[name] = ended, timer

    def ended(self, name: TopicName, user: str) -> Ended | None:
        """A user's stream on a topic that has ended, if its receipt is kept."""
        ended, _ = self._ended.get(name, (None, None))
        return ended if ended and ended.caller.user == user else None

    def drop_ended(self, name: TopicName) -> None:
        """Keep a receipt no longer; do nothing if there is none."""
        if name in self._ended:
            ended, timer = self._ended.pop(name)
            timer.cancel()
            ended.leave()
            self._forgotten(name)

    @property
    def receipts(self) -> Collection[TopicName]:
        """The topics of which a receipt is kept; they need not exist any more."""
        return self._ended.keys()

    # -- readers ----------------------------------------------------------------------------------

    def may_hold_reader(self, user: str) -> bool:
        """Whether one more reader of a user may be held."""
        return self._counts[user] < MAX_READERS_PER_USER

    def hold_reader(self, name: TopicName, held: HeldReader, seconds: float) -> None:
        """Hold a reader's place for so long, then give it up."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, self.drop_reader, name, held)
        self._readers.setdefault(name, {})[held] = timer
        self._counts[held.caller.user] += 1

    def readers_of(self, name: TopicName, user: str) -> list[HeldReader]:
        """A user's readers that are held on a topic, oldest first."""
        return [held for held in self._readers.get(name, ()) if held.caller.user == user]

    def drop_reader(self, name: TopicName, held: HeldReader) -> None:
        """Give a reader's place up; do nothing if that was done."""
        there = self._readers.get(name, {})
        if held not in there:
            return
        there.pop(held).cancel()
        if not there:
            del self._readers[name]
        user = held.caller.user
        self._counts[user] -= 1
        if not self._counts[user]:
            del self._counts[user]
        held.leave()

    # -- all --------------------------------------------------------------------------------------

    def forget(self, is_gone: Callable[[Caller], object]) -> None:
        """End what belongs to callers who are gone."""
        for name, (held, _) in list(self._held.items()):
            if is_gone(held.caller):
                self.drop(name)
        for name, (ended, _) in list(self._ended.items()):
            if is_gone(ended.caller):
                self.drop_ended(name)
        for name, readers in list(self._readers.items()):
            for reader in list(readers):
                if is_gone(reader.caller):
                    self.drop_reader(name, reader)

    def close(self) -> None:
        """End all, as the server stops."""
        self.forget(lambda _: True)
