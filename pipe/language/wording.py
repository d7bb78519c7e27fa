"""Numbers as sentences have them."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def amount(size: int) -> str:
    """Write an exact number of bytes for people: ``17,000,000 bytes``."""
    return f"{size:,} byte{'' if size == 1 else 's'}"
