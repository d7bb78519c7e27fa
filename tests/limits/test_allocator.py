"""The C library keeps large blocks, so that a stream does not ask the kernel for each anew."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

PROGRAM: Final = """
import resource, sys
from pipe.limits.allocator import keep_large_blocks

if sys.argv[1] == "keep":
    keep_large_blocks()
blocks = 200
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(blocks):
    held = [b"x" * (256 << 10) for _ in range(3)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """How many pages the kernel had to give."""
    words = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(words, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_blocks_are_kept() -> None:
    """Blocks of a read's size are used again: each page of theirs is asked for once."""
    kept = faults("keep")
    assert kept < 3 * 64 * 4, f"{kept} pages for {3 * 64}"
