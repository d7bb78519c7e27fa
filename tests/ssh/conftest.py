"""What the tests of whole servers here share with those in `tests.e2e`."""

from tests.e2e.conftest import keys, start_server

from .house import house, settings

__all__ = ["house", "keys", "settings", "start_server"]
