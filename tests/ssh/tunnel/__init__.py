"""Mirrors pipe/ssh/tunnel."""
