"""The command line of the soak: `make soak`.

    python -m loadtest.soak --minutes 30 --seed 1
    python -m loadtest.soak --minutes 60 --workers 3
    python -m loadtest.soak --minutes 60 --workers 2 --nodes 2

It starts a server of its own on the loopback address, and stops by itself.  With several workers or
machines parts of it are killed meanwhile, one a minute.  Ctrl-C prints the report so far.  The exit
status is 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

import uvloop

from .run import Soak
from .siege import Siege


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load goes on")
    parser.add_argument("--seed", type=int, help="to play the same scenes again")
    parser.add_argument("--workers", type=int, default=1, help="how many each machine has")
    parser.add_argument("--nodes", type=int, default=1, help="machines that share a PostgreSQL")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}, {options.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="pipe-soak-") as name:
        directory, seconds = Path(name), options.minutes * 60
        soak: Soak | Siege
        if options.nodes == options.workers == 1:
            soak = Soak(directory, seconds, seed)
        else:
            soak = Siege(directory, seconds, seed, nodes=options.nodes, workers=options.workers)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(soak.run())
        except KeyboardInterrupt:
            print("interrupted: what follows is not a whole run")
        finally:
            soak.judge()
    print(soak.report())
    return 1 if soak.tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
