"""Mirrors pipe/language."""
