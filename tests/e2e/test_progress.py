"""`-v`: how far a stream is, on stderr."""

from __future__ import annotations

import pytest

from .processes import HELD, statuses
from .server import Server, Status

pytestmark = pytest.mark.e2e


def test_line_is_drawn_over_itself_and_stays_at_the_end(server: Server) -> None:
    """It changes in place, other lines begin anew, and the last state is a line of its own."""
    writer = server.ssh("alice", "pub -v --size 4 door", stdin=HELD)
    writer.wait_stderr(r"\r +0 B 0:00:00 \[ +0 B/s\]   0% 0 readers, waits for 1 reader")
    [reader] = server.subscribe("alice", "sub -v door")
    writer.write(b"come")
    reader.wait_stderr(r"\r +4 B 0:00:\d\d .* 1 publisher")
    writer.close_stdin()

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"come"
    assert writer.lines[-1] == "pipe: sent 4 bytes to 1 subscriber"
    last = writer.lines[-2].split("\r")[-1]
    assert last.startswith("      4 B ")
    assert last.rstrip().endswith("100%")
    assert reader.text.endswith("\n")


def test_nobody_sees_it_unasked(server: Server) -> None:
    """Without the flags nothing is drawn."""
    [reader] = server.subscribe("alice", "sub door")
    writer = server.ssh("alice", "pub door", stdin=b"come")

    assert statuses(writer, reader) == [Status.OK] * 2
    assert "\r" not in writer.text + reader.text
