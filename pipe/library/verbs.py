"""The verbs that a `pipe.Broker` and a `pipe.Server` have: publish, subscribe, pipe, topics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from pipe.language.flags import one_of
from pipe.language.past import Last, parse_last
from pipe.language.requests import (
    DEFAULT_TIMEOUT,
    Dispatch,
    Framing,
    List,
    OnSlow,
    Pipe,
    Publish,
    Subscribe,
)
from pipe.language.sizes import parse_size
from pipe.language.writing import checked
from pipe.library.streams import Duplex, Reader, Writer

if TYPE_CHECKING:
    import enum
    from collections.abc import Iterable
    from typing import TypeAlias

    from pipe.library.streams import Link

    Slow: TypeAlias = Literal["block", "drop", "disconnect"]
    Dealt: TypeAlias = Literal["multicast", "round_robin"]
    Frame: TypeAlias = Literal["none", "line", "nul"]

_Choice = TypeVar("_Choice", bound="enum.Enum")


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic at a moment: who is on it, and what went through it.

    Bytes are those of the members that are there now and joined it by name; ``stream_bytes`` is
    what its `publish` have sent so far, so what a reader that comes now has missed.
    """

    name: str
    publishers: int
    subscribers: int
    pipes: int
    waiting: int
    clogged: int
    in_bytes: int
    out_bytes: int
    stream_bytes: int


class Verbs(ABC):
    """What can be done with topics.  Options are those of the commands, by the same names."""

    @abstractmethod
    async def _open(self, request: Publish | Subscribe | Pipe) -> Link:
        """Join a topic."""

    @abstractmethod
    async def _topics(self, request: List) -> list[TopicInfo]:
        """Look at topics."""

    def publish(
        self,
        topic: str | None = None,
        *,
        min_subscribers: int = 1,
        block: bool = True,
        timeout: float = DEFAULT_TIMEOUT,
        whole: bool = False,
        exit_status: int = 0,
        dispatch: Dealt = "multicast",
        frame: Frame = "none",
        keep: int | str = 0,
        linger: float = 0.0,
        public: bool = False,
        access: str | Iterable[str] | None = None,
    ) -> Writer:
        """Write a stream to a topic: ``async with broker.publish("build") as stream``.

        Args:
            topic: Its name; None for a random one.
            min_subscribers: Readers to wait for before the first byte.
            block: Whether to wait for readers at all; if not, nobody need be there.
            timeout: Seconds to wait for them, then `TimedOut`.
            whole: Give nobody only a part: late readers are refused, and if the last one leaves,
                the stream is `Broken`.
            exit_status: What every reader ends with; other than 0 it is `PublisherFailed` there.
            dispatch: ``"round_robin"`` gives each piece, or record, to one reader in turn.
            frame: What stays whole: ``"line"``, or records that end in NUL (``"nul"``).
            keep: How much of the topic's past to keep for readers that come late: bytes or a text
                such as ``"1MiB"``.
            linger: Seconds to keep it after the last publisher.
            public: Whether the name is in the space that all users share.
            access: Who else may join while this stream is there: users, keys (``"SHA256:…"``) or
                ``"@users"``, as a list or as ``"bob,carol"``.  A broker keeps nobody out.

        Raises:
            UsageError: A value is not allowed, or some contradict each other.
        """
        request = Publish(
            topic=topic,
            min_subscribers=min_subscribers,
            block=block,
            timeout=float(timeout),
            whole=whole,
            exit_status=exit_status,
            dispatch=_choose(Dispatch, dispatch),
            framing=_choose(Framing, frame),
            keep=_size(keep),
            linger=float(linger),
            public=public,
            access=_entries(access),
        )
        return Writer(partial(self._open, checked(request)))

    def subscribe(
        self,
        topic: str,
        *,
        keep_alive: bool = False,
        whole: bool = False,
        on_slow: Slow = "block",
        last: int | str | None = None,
        from_: int | None = None,
        stream: str | None = None,
        public: bool = False,
        access: str | Iterable[str] | None = None,
    ) -> Reader:
        """Read a topic, or all that match a pattern: ``async for piece in broker.subscribe("x")``.

        Args:
            topic: Its name, or a pattern: ``*`` is anything between slashes, ``**`` all that
                follows.  A reader of a pattern stays.
            keep_alive: Whether to stay for the next publisher when the last one has ended.
            whole: Take the stream from its first byte, or raise `TooLate`.
            on_slow: If this reader falls behind, ``"block"`` the publishers, ``"drop"`` what it has
                no room for and raise `Dropped` at the end, or ``"disconnect"`` it with `CutOff`.
            last: How much to take of what is kept: bytes, or a text such as ``"64KiB"`` or, in
                lines, ``"100l"``.
            from_: The byte of the stream to begin with, or raise `TooLate`.
            stream: The identifier of the stream that ``from_`` means.
            public: Whether the name is in the space that all users share.
            access: As of `publish`.

        Raises:
            UsageError: A value is not allowed, or some contradict each other.
        """
        request = Subscribe(
            topic=topic,
            keep_alive=keep_alive,
            whole=whole,
            on_slow=_choose(OnSlow, on_slow),
            last=Last(last) if isinstance(last, int) else parse_last(last) if last else None,
            offset=from_,
            stream=stream,
            public=public,
            access=_entries(access),
        )
        return Reader(partial(self._open, checked(request)))

    def pipe(
        self,
        topic: str | None = None,
        *,
        replay: bool = False,
        dispatch: Dealt = "multicast",
        frame: Frame = "none",
        on_slow: Slow = "block",
        keep: int | str = 0,
        linger: float = 0.0,
        public: bool = False,
        access: str | Iterable[str] | None = None,
    ) -> Duplex:
        """Read and write a topic at once: ``async with broker.pipe("chat") as stream``.

        Args:
            topic: Its name; None for a random one.
            replay: Whether to get back what it writes itself.
            dispatch: As of `publish`.
            frame: As of `publish`.
            on_slow: As of `subscribe`.
            keep: As of `publish`.
            linger: As of `publish`.
            public: Whether the name is in the space that all users share.
            access: As of `publish`.

        Raises:
            UsageError: A value is not allowed, or some contradict each other.
        """
        request = Pipe(
            topic=topic,
            replay=replay,
            dispatch=_choose(Dispatch, dispatch),
            framing=_choose(Framing, frame),
            on_slow=_choose(OnSlow, on_slow),
            keep=_size(keep),
            linger=float(linger),
            public=public,
            access=_entries(access),
        )
        return Duplex(partial(self._open, checked(request)))

    async def topics(self, pattern: str | None = None) -> list[TopicInfo]:
        """List the topics that there are, or those that match a pattern.

        Raises:
            UsageError: The pattern is none.
        """
        return await self._topics(checked(List(pattern)))


def _choose(choices: type[_Choice], text: str) -> _Choice:
    found = one_of(choices)(text)
    assert isinstance(found, choices)  # noqa: S101 - for the type checker
    return found


def _entries(access: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if access is None:
        return None
    return (access,) if isinstance(access, str) else tuple(access)


def _size(size: int | str) -> int:
    return parse_size(size) if isinstance(size, str) else size
