"""Tests of `pipe.ssh.lane`."""
