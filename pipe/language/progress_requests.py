"""What shows how streams get on: the flags of ``-v``; `requests` includes them."""

from __future__ import annotations

from pipe.language.flags import Flag, boolean
from pipe.language.quantities import parse_size

PROGRESS_FLAGS = (
    Flag("progress", "-v --progress", boolean, "show once a second on stderr how far it is"),
    Flag("size", "--size", parse_size, "how much it will be: -v, per cent, time left", "SIZE"),
)
"""Of `pub`, `sub` and `pipe`.  The size alone asks for the progress, too."""
