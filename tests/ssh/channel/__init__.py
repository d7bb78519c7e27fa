"""Tests of `pipe.ssh.channel`."""
