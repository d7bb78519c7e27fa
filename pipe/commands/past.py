"""How to say what is kept of a topic's past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.layout import amount

if TYPE_CHECKING:
    from pipe.stream.history import Kept


def describe(kept: Kept) -> str:
    """Say what is kept of a stream."""
    if kept.first == kept.end:
        return f"stream {kept.stream} has sent {amount(kept.end)}, and none of them are kept"
    over = ", and is over" if kept.over else ""
    return f"stream {kept.stream} has bytes {kept.first} to {kept.end}{over}"
