"""How much memory and time of a processor the workers use, as the kernel tells."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipe.limits.memory import MemoryAlarm, default_threshold, resident_bytes
from pipe.limits.memory_watch import LOOK_SECONDS

if TYPE_CHECKING:
    from pipe.hub.crew import Crew, Worker
    from pipe.mesh.directory import WorkerId
    from pipe.settings import Settings

BUSY_SECONDS = 1.0
"""Over which time the use of a processor is measured: the kernel counts in steps of 10 ms."""

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_UTIME = 11
"""Where it is in stat (proc(5)), counted from the state; stime follows."""


class Census:
    """Looks at all workers again and again.

    Memory that they share counts for each of them, some 20 MiB.

    Args:
        settings: with the threshold of the memory alarm.
        crew: the workers.
    """

    def __init__(self, settings: Settings, crew: Crew) -> None:
        self._crew = crew
        self._alarm = MemoryAlarm(settings.memory_alarm or default_threshold())
        self._used: dict[WorkerId, float] = {}  # seconds, at the last look
        self._busy: dict[WorkerId, float] = {}
        self._looked = time.monotonic()
        self._told = False

    @property
    def busy(self) -> dict[WorkerId, float]:
        """The workers that may get a new topic, and how much of a core each uses."""
        serving = (one for one in self._crew.serving if not one.still)
        return {one.ident: self._busy.get(one.ident, 0.0) for one in serving}

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            workers = list(self._crew.workers.values())
            self._look_at_memory(workers)
            now = time.monotonic()
            if now - self._looked >= BUSY_SECONDS:
                used = {one.ident: _processor_seconds(one.process.pid) for one in workers}
                self._busy = {
                    ident: (seconds - self._used.get(ident, seconds)) / (now - self._looked)
                    for ident, seconds in used.items()
                }
                self._used, self._looked = used, now

    def _look_at_memory(self, workers: list[Worker]) -> None:
        """Tell all workers the sum while it is near the threshold, and once that it is not."""
        if not self._alarm.threshold:
            return
        resident = resident_bytes() + sum(
            resident_bytes(Path(f"/proc/{worker.process.pid}/statm")) for worker in workers
        )
        near = resident > self._alarm.recovery
        if near or self._told:
            for worker in workers:
                if worker.is_ready:
                    worker.channel.send({"type": "memory", "resident": resident if near else 0})
        self._told = near


def _processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[_UTIME]) + int(fields[_UTIME + 1])) * _TICK_SECONDS
