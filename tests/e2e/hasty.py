"""`pipe` with monitors whose windows may be far shorter than anybody wants.  Run as `python -m`."""

from __future__ import annotations

import sys

import pipe.language.monitor_requests
from pipe.cli import main

if __name__ == "__main__":
    pipe.language.monitor_requests.MIN_WINDOW = 0.1
    sys.exit(main())
