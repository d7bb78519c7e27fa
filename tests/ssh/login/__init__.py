"""Tests of `pipe.ssh.login`."""
