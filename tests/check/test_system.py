"""The check of descriptors and clock."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pipe.check import system
from pipe.check.findings import Level
from pipe.check.system import check_system

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pipe.settings import Settings


def test_descriptors(make: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """One user or address must not be let to use them up."""
    monkeypatch.setattr(system, "most_connections", lambda: 1000)
    small = {"max_connections_per_user": 100, "max_connections_per_address": 100}
    assert next(check_system(make(**small))).level is Level.OK
    found = next(check_system(make(**small | {"max_connections_per_address": 1000})))
    assert (found.level, "--max-connections-per-address 1000" in found.text) == (
        Level.WARNING,
        True,
    )


def test_clock(make: Callable[..., Settings]) -> None:
    """Files from the future show that the clock is behind."""
    settings = make()
    assert [found.level for found in check_system(settings)][1] is Level.OK
    settings.web_key_path.touch()
    tomorrow = time.time() + 86400
    os.utime(settings.web_key_path, (tomorrow, tomorrow))
    found = list(check_system(settings))[1]
    assert (found.level, "web_key is of" in found.text) == (Level.WARNING, True)


def test_workers(make: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """More workers than processors gain nothing; of one nothing is said."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    levels = {
        number: [one.level for one in check_system(make(workers=number)) if one.about == "workers"]
        for number in (1, 2, 3)
    }
    assert levels == {1: [], 2: [Level.OK], 3: [Level.WARNING]}
