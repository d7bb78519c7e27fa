"""Tests of pipe.chat."""
