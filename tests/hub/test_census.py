"""The memory of all processes, and who is told of it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from pipe.hub.census import Census
from pipe.limits.memory import resident_bytes
from pipe.mesh.directory import WorkerId
from pipe.settings import Settings


def test_alarm_is_for_the_sum() -> None:
    """Workers hear of the sum while it is near the threshold, and once that it no longer is."""
    told: list[dict[str, Any]] = []
    worker = SimpleNamespace(
        ident=WorkerId("", 1, 1),
        process=SimpleNamespace(pid=os.getpid()),
        channel=SimpleNamespace(send=told.append),
        is_ready=True,
    )
    crew: Any = SimpleNamespace(serving=[worker], workers={})
    census: Any = Census(Settings(memory_alarm=resident_bytes() * 2), crew)
    census._look_at_memory([worker])  # noqa: SLF001 - twice its memory: the process and "worker"
    census._look_at_memory([])  # noqa: SLF001
    assert len(told) == 1
    assert told[0]["resident"] > resident_bytes() * 1.8
    census._told = True  # noqa: SLF001
    census._alarm.recovery = 1 << 50  # noqa: SLF001
    census._look_at_memory([worker])  # noqa: SLF001
    census._look_at_memory([worker])  # noqa: SLF001
    assert told[1:] == [{"type": "memory", "resident": 0}]


def test_who_may_get_a_topic() -> None:
    """Those that serve and answer, also before they have been looked at."""
    worker = SimpleNamespace(ident=WorkerId("", 1, 1), still=False)
    hung = SimpleNamespace(ident=WorkerId("", 2, 2), still=True)
    crew: Any = SimpleNamespace(serving=[worker, hung], workers={})
    assert Census(Settings(), crew).busy == {worker.ident: 0.0}
