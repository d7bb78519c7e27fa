"""Mirrors pipe/hub."""
