"""What the tests of whole servers here share with those in `tests.e2e`."""

from tests.e2e.conftest import keys, start_server

__all__ = ["keys", "start_server"]
