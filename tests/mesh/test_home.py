"""The front of a client in another worker, without that worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipe.elsewhere import Gone
from pipe.errors import Outcome
from pipe.mesh.errands import write_gone
from pipe.mesh.frames import Frame, Kind
from pipe.mesh.home import FarFront


@pytest.mark.parametrize("lacks_readers", [False, True])
def test_client_that_has_sent_all_is_gone(lacks_readers: bool) -> None:
    """Its session goes on for the readers that there are, and waits for no others."""
    told: list[str] = []
    nothing: Any = None
    errand: Any = SimpleNamespace(screen=None)
    front = FarFront(nothing, 1, errand, nothing, 0, nothing)
    port: Any = SimpleNamespace(lose=lambda: told.append("lost"))
    front.port = port
    session: Any = SimpleNamespace(
        lacks_readers=lacks_readers,
        abandon=lambda: told.append("abandoned"),
        client_gone=lambda *_, **__: told.append("gone"),
    )
    front.session = session
    gone = write_gone(Gone(Outcome.LEFT, "", confirmed=False, lost=False, complete=True))
    front.taken(Frame(0, Kind.GONE, 1, memoryview(gone)))
    assert told == (["lost", "gone"] if lacks_readers else ["abandoned"])
