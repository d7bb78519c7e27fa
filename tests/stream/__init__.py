"""Mirrors pipe/stream/: the rules of the router, one by one and all mixed."""
