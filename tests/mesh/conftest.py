"""What the tests of whole workers here share with those in `tests.e2e`."""

from tests.e2e.conftest import keys

__all__ = ["keys"]
