"""Mirrors pipe/events."""
