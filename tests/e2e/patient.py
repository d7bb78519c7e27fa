"""`pipe` with more patience where it does not wait long for clients, as no setting says how long.

A client here is late only because the machine has much else to do.  And it may be scraped all the
time, as tests learn by that what has come about.  Run as `python -m`.
"""

from __future__ import annotations

import sys
from typing import Final

import pipe.app
import pipe.hub.figures
import pipe.metrics.scrapes
import pipe.ssh.lane.connection
from pipe.cli import main

PATIENCE: Final = 600.0
"""Seconds, above any test's."""


def be_patient() -> None:
    """Wait longer from now on."""
    # Later than that a client's KEXINIT does not decide any more which data path it gets.
    pipe.ssh.lane.connection.KEXINIT_PATIENCE_SECONDS = PATIENCE  # type: ignore[attr-defined]
    # A stream that has not moved for so long is cut while the server drains.
    pipe.app.STILL_SECONDS = PATIENCE
    # After that whoever has not yet read the exit status loses the connection.
    pipe.app.GOODBYE_SECONDS = PATIENCE
    pipe.metrics.scrapes.REST_FACTOR = 0
    # After that a hub answers a scrape without a worker's gauges: a little less than a scrape has.
    pipe.hub.figures.ANSWER_SECONDS = 4.0


if __name__ == "__main__":
    be_patient()
    sys.exit(main())
