"""``python -m pipe`` is the command ``pipe``."""

from __future__ import annotations

import sys

from pipe.cli import main

if __name__ == "__main__":
    sys.exit(main())
