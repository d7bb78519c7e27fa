"""How streams get on: `-v` on stderr, `stat` and `top`."""

from __future__ import annotations

import json

import pytest

from .processes import HELD, statuses
from .server import Server, Status
from .test_terminal import TERMINAL

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


@pytest.mark.parametrize("command", ["top", "stat -f door"])
def test_redrawn_in_a_terminal_until_control_c(server: Server, command: str) -> None:
    """`ssh -t` gets each answer from the top left on, with lines as a raw terminal needs them."""
    [_] = server.subscribe("alice", "sub door")
    client = server.ssh("alice", command, stdin=HELD, options=TERMINAL)
    client.stdout.wait(lambda output: output.data.count(b"\x1b[J") > 1)
    client.write(b"\x03")

    assert client.wait() == Status.INTERRUPTED
    assert client.output.startswith("\x1b[H")
    assert "door" in client.output
    assert client.output.count("\n") == client.output.count("\x1b[K\r\n")


@pytest.mark.parametrize("command", ["top --json", "stat -f --json door"])
def test_lines_of_json_elsewhere(server: Server, command: str) -> None:
    """Each answer is a line, as long as somebody reads."""
    [_] = server.subscribe("alice", "sub door")
    client = server.ssh("alice", command)
    client.stdout.wait(lambda output: output.data.count(b"\n") > 1)

    for line in client.output.splitlines():
        found = json.loads(line)
        topic = found[0] if isinstance(found, list) else found
        assert topic["topic"] == "alice/door"


def test_stat_answers_once(server: Server) -> None:
    """Without `-f` it ends by itself."""
    [_] = server.subscribe("alice", "sub door")
    client = server.run("alice", "stat door")

    assert client.wait() == Status.OK
    assert "1 subscriber" in client.output
