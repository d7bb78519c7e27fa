"""Mirrors pipe/mesh."""
