"""Tests of `pipe.check`: what it finds, and that it changes nothing."""
