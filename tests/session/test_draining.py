"""Which sessions a server that stops waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipe.session.draining import Draining

PATIENCE = 3.0
ROUTER: Any = None


class Session:
    """A session on no topic of this worker."""

    member = None

    def __init__(self, abroad: object, *, follows: bool) -> None:
        self.abroad: Any = abroad
        self.follows = follows


def relayed(*, told: bool = True, moved: int | None = None, follows: bool = False) -> Any:  # noqa: ANN401
    """A session whose stream is at home in another worker."""
    return Session(SimpleNamespace(is_told=told, moved_bytes=moved), follows=follows)


@pytest.mark.parametrize(
    ("session", "finishes"),
    [
        (relayed(told=False), True),
        (relayed(told=False, follows=True), False),
        (relayed(moved=None), False),
        (relayed(moved=0), True),
        (Session(None, follows=False), True),
        (Session(None, follows=True), False),
    ],
)
def test_who_may_finish(session: Any, finishes: bool) -> None:  # noqa: ANN401
    """Whoever is part of a stream or about to end may; who waits or follows what happens not."""
    assert Draining(ROUTER, PATIENCE).may_finish(session, 0.0) is finishes


def test_stream_elsewhere_that_stands_still() -> None:
    """It may finish as long as it moves now and then."""
    draining = Draining(ROUTER, PATIENCE)
    session = relayed(moved=0)
    assert draining.may_finish(session, 0.0)
    assert draining.may_finish(session, PATIENCE - 0.1)
    session.abroad.moved_bytes = 1
    assert draining.may_finish(session, PATIENCE)
    assert draining.may_finish(session, 2 * PATIENCE - 0.1)
    assert not draining.may_finish(session, 2 * PATIENCE)
