"""What the tests of access share."""

from __future__ import annotations

import pytest

from pipe.rights.access import Access
from tests.rights.people import Clock


@pytest.fixture
def clock() -> Clock:
    """The time of `access`."""
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    """A judge who knows of nothing yet."""
    return Access(clock)
