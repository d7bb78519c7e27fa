"""`pipe` with a hub that notices sooner which worker stands still.  Run as `python -m`."""

from __future__ import annotations

import sys
from typing import Final

import pipe.hub.attendance
from pipe.cli import main

from .patient import be_patient

PROGRAM: Final = "tests.e2e.alert"

if __name__ == "__main__":
    be_patient()
    # Before anything has taken these from there.
    pipe.hub.attendance.LOOK_SECONDS = 0.2
    pipe.hub.attendance.LEASE_SECONDS = 1.5
    pipe.hub.attendance.PATIENCE_SECONDS = 3.0
    sys.exit(main())
