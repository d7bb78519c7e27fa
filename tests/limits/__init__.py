"""Mirrors pipe/limits."""
