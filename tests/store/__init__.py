"""Tests of `pipe.store`: users, keys and grants in a database."""
