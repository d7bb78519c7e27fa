"""Tests of the library: the broker, and the clients over SSH and HTTP."""
