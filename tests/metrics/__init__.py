"""Mirrors pipe/metrics/."""
