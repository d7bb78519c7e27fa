"""Tests of what the server itself reads and publishes."""
