"""Tests of `pipe.ssh`: listening, login, sessions and the lane."""
