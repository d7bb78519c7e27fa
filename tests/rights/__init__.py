"""Mirrors pipe/rights."""
