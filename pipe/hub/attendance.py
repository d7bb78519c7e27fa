"""Whether each worker goes on: one that is asked and does not answer stands still.

What a service has once, a worker has only for `LEASE_SECONDS` from when it was told so last, by the
clock that all processes of a machine share.  Another one gets it later than that if the first is
not heard of: so it is never two, also when the first one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import structlog

from pipe.hub.channel import Lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.hub.crew import Worker

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""How long after each answer a worker is asked again."""

LEASE_SECONDS = 4.0
"""Less than `pipe.hub.crew.LAY_DOWN_SECONDS`, after which nobody waits for an answer either."""

PATIENCE_SECONDS = 10.0
"""How long a worker may take for an answer.  Whoever is to take its duties over loses what webhooks
had waiting in it, and a machine that swaps can stop a process for seconds."""


def lease_end() -> float:
    """Until when a worker has what it is told now, by the monotonic clock."""
    return time.monotonic() + LEASE_SECONDS


class Attendance:
    """Asks all workers.

    Args:
        leads: says whether a worker has the duties of one.
        changed: called when a worker stands still, as its ``still`` says then, or goes on.
    """

    def __init__(self, leads: Callable[[Worker], bool], changed: Callable[[Worker], None]) -> None:
        self._leads = leads
        self._changed = changed

    async def watch(self, worker: Worker) -> None:
        """Ask one until it has ended; nothing piles up for one that stands still."""
        with contextlib.suppress(Lost):
            while True:
                await self._ask(worker)
                await asyncio.sleep(LOOK_SECONDS)

    async def _ask(self, worker: Worker) -> None:
        question = {"type": "attend"}
        lease = {"until": lease_end()} if self._leads(worker) else {}
        answer = asyncio.ensure_future(worker.channel.ask({**question, **lease}))
        answer.add_done_callback(_retrieve)
        await asyncio.wait({answer}, timeout=PATIENCE_SECONDS)
        if not answer.done():
            self.stands_still(worker)
            await asyncio.wait({answer})
        answer.result()
        if worker.still:
            worker.still = False
            log.info("worker goes on", worker=worker.ident.number)
            self._changed(worker)

    def stands_still(self, worker: Worker) -> None:
        """Note that a worker does not answer."""
        if not (worker.still or worker.ended.is_set()):
            worker.still = True
            log.warning("worker stands still", worker=worker.ident.number)
            self._changed(worker)


def _retrieve(answer: asyncio.Future[Any]) -> None:
    """Take an error that nobody may be there for, as the hub can end first."""
    if not answer.cancelled():
        answer.exception()
