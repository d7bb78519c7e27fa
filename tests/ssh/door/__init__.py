"""Tests of `pipe.ssh.door`."""
