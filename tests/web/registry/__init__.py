"""Mirrors pipe/web/registry."""
