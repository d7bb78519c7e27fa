"""The HTTP front, in the test's own process."""
