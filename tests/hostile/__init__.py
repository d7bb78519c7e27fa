"""Tests with peers that misbehave on purpose."""
