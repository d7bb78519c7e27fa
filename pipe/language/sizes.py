"""Sizes as people write them: ``64KiB``, ``1.5GiB``, ``1000000``."""

from __future__ import annotations

from decimal import Decimal

from pipe.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_SIZE_UNITS = {"KiB": KIB, "MiB": MIB, "GiB": GIB, "kB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1}


def parse_size(text: str) -> int:
    """Read a size such as ``64KiB``, ``1.5GiB`` or a plain ``1000000``.

    Returns:
        Bytes.

    Raises:
        UsageError: The text is not a whole number of bytes.
    """
    unit = next((unit for unit in _SIZE_UNITS if text.endswith(unit)), "")
    number = text.removesuffix(unit).strip() if unit else text
    if number.isascii() and number.replace(".", "", 1).isdigit() and len(number) <= 20:
        size = Decimal(number) * _SIZE_UNITS.get(unit, 1)
        if size == int(size):
            return int(size)
    raise UsageError("this is not a size: write it like 64KiB, 1MiB, 1GiB or 1000000")


def format_size(size: float) -> str:
    """Write a size in the shortest form that `parse_size` reads back."""
    whole = round(size)
    for unit in ("GiB", "MiB", "KiB"):
        count, rest = divmod(whole, _SIZE_UNITS[unit])
        if count and not rest:
            return f"{count}{unit}"
    return str(whole)
