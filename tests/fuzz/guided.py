"""Fuzzing that is guided by the code that an input reaches: `make fuzz`, with atheris.

    python -m tests.fuzz.guided lane --runs 1000000
    python -m tests.fuzz.guided texts --runs 1000000

``lane`` sends rows of packets as `fuzz_lane` does, ``texts`` reads what `texts` in this package
lists.  libFuzzer makes the inputs out of the corpus, and keeps what reaches code that none before
has.  It ends with the first failure: the trace and the input are printed, and for ``lane`` all
inputs that the connection has had, for ``fuzz_lane --repeat``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["pipe"]):
    import uvloop

    from tests.fuzz.fuzz_lane import (
        CHECK_EVERY,
        MAX_INPUT_BYTES,
        BrokenPromise,
        LaneTarget,
        load_corpus,
    )
    from tests.fuzz.texts import check_text, load_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def lane_target() -> Callable[[bytes], None]:
    """What takes one row of packets."""
    loop = uvloop.new_event_loop()

    async def make() -> LaneTarget:
        return LaneTarget()

    target = loop.run_until_complete(make())
    done = 0

    async def send(content: bytes) -> None:
        nonlocal done
        await target.run(content)
        done += 1
        if done % CHECK_EVERY == 0:
            await target.check_innocent()

    def take(content: bytes) -> None:
        try:
            loop.run_until_complete(send(content))
        except BrokenPromise as error:
            for line in error.inputs:
                print(line.hex(), file=sys.stderr)  # noqa: T201
            raise

    return take


def fuzz(take: Callable[[bytes], None], seeds: Sequence[bytes], options: Sequence[str]) -> None:
    """Hand over to libFuzzer, which ends the process."""
    with tempfile.TemporaryDirectory(prefix="pipe-fuzz-") as directory:
        for number, seed in enumerate(seeds):
            (Path(directory) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, directory], take)
        atheris.Fuzz()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=["lane", "texts"])
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs to try")
    parser.add_argument("--seconds", type=int, default=3600, help="stop after this long")
    parser.add_argument("--seed", type=int, default=0, help="to get the same inputs again")
    options = parser.parse_args()
    words = [
        f"-atheris_runs={options.runs}",
        f"-max_total_time={options.seconds}",
        f"-seed={options.seed}",
        f"-max_len={MAX_INPUT_BYTES}",
        "-print_final_stats=1",
        "-timeout=60",
        "-rss_limit_mb=2048",
    ]
    if options.target == "lane":
        fuzz(lane_target(), load_corpus(), words)
    else:
        fuzz(check_text, load_texts(), words)


if __name__ == "__main__":
    main()
