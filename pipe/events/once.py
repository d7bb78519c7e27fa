"""What a service has once, however many workers it has, and how the others leave it to that one.

What was told lately is known where it is decided whether something is new, and the server's own
lines about users are where all log lines are.  Both are in the worker that is first: see
`pipe.elsewhere.Elsewhere`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, TypeAlias

import structlog

from pipe.errors import PipeError
from pipe.events.dedupe import Sighting
from pipe.events.logs.forwarding import Forwarder, OwnLine, OwnLines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipe.events.dedupe import Seen
    from pipe.events.logs.drain import LogDrain

Matter: TypeAlias = Sighting | OwnLines
"""What the first worker is asked to deal with."""

log = structlog.get_logger()


class First(Protocol):
    """The worker that has all this, as the others see it."""

    @property
    def is_first(self) -> bool:
        """Whether it is this one."""

    async def ask_first(self, matter: Matter) -> bool:
        """Have it deal with something, and return what it says: see `Once.deal`.

        Raises:
            PipeError: there is none now, or it does not answer.
        """


class Once:
    """This worker's share of it.

    Args:
        seen: what was told lately, if it is decided here.
        logs: where the lines are, if they are here.
        first: the worker that is first; None if there is no other than this.
    """

    def __init__(self, seen: Seen, logs: LogDrain, first: Callable[[], First | None]) -> None:
        self._seen = seen
        self._logs = logs
        self._first = first
        self._forwarder = Forwarder(self._send)

    async def is_new(self, sighting: Sighting) -> bool:
        """Note something that is told, and return whether it is told for the first time.

        Where nobody can be asked it is new if this worker does not know it: better twice than not
        at all.
        """
        first = self._away()
        if first:
            try:
                return await first.ask_first(sighting)
            except PipeError as error:
                log.warning("told perhaps twice", error=error.message)
        return self._seen.first(sighting, asyncio.get_running_loop().time())

    def tell(self, user: str, level: str, text: str, fields: Mapping[str, object]) -> None:
        """Show a line about a user; quick, and nothing is logged.  See `LogDrain.tell`."""
        if self._away():
            self._forwarder.add(OwnLine.make(time.time(), user, level, text, fields))
        else:
            self._logs.tell(user, level, text, fields)

    def warn(self, user: str, text: str, fields: Mapping[str, object]) -> None:
        """Show a user what somebody did in that name.  See `LogDrain.warn`."""
        if self._away():
            line = OwnLine.make(time.time(), user, "WARN", text, fields, by_stranger=True)
            self._forwarder.add(line)
        else:
            self._logs.warn(user, text, fields)

    def deal(self, matter: Matter) -> bool:
        """Deal with what another worker has, as this one is first."""
        if isinstance(matter, Sighting):
            return self._seen.first(matter, asyncio.get_running_loop().time())
        self._logs.take_own(matter)
        return True

    async def _send(self, lines: OwnLines) -> None:
        first = self._away()
        if first:
            await first.ask_first(lines)
        else:  # this one is first by now
            self._logs.take_own(lines)

    def _away(self) -> First | None:
        first = self._first()
        return None if first is None or first.is_first else first
