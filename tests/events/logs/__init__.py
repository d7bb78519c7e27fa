"""Tests of user logs."""
