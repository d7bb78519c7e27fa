"""Mirrors pipe/session."""
