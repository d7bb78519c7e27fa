"""What the tests of the router share."""

import pytest

from pipe.stream.router import Router


@pytest.fixture(name="router")
def empty_router() -> Router:
    """An empty router."""
    return Router()
