"""Nobody gets half a stream without being told, and with `--whole` nobody gets half of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .processes import HELD, statuses
from .server import Server, Status

if TYPE_CHECKING:
    from .payloads import Blob
    from .processes import Process

pytestmark = pytest.mark.e2e


def begun(server: Server, command: str) -> tuple[Process, Process]:
    """A publisher that has sent 1,024 bytes and has more, and its reader that has read them."""
    [reader] = server.subscribe("alice", "sub film")
    writer = server.ssh("alice", command, stdin=HELD)
    writer.write(b"x" * 1024)
    reader.wait_stdout(1024)
    return writer, reader


def test_latecomer_is_told(server: Server) -> None:
    """A reader that joins in mid-stream learns how much went by, and gets the rest."""
    writer, early = begun(server, "pub film")
    late = server.ssh("alice", "sub film")
    server.wait_sessions(subscribe=2)
    writer.write(b"rest")
    writer.close_stdin()

    assert statuses(writer, early, late) == [Status.OK] * 3
    assert late.lines == ["pipe: joined in mid-stream: 1,024 bytes went by before"]
    assert late.output == "rest"
    assert early.text == ""


@pytest.mark.parametrize(("publish", "subscribe"), [("pub", "sub -w"), ("pub -w", "sub")])
def test_latecomer_is_refused(server: Server, publish: str, subscribe: str) -> None:
    """Whoever of the two wants the whole: 75 and a line; the reader that was there has it all."""
    writer, early = begun(server, f"{publish} film")
    late = server.run("alice", f"{subscribe} film")
    writer.write(b"rest")
    writer.close_stdin()

    assert late.wait() == Status.TIMEOUT
    assert late.lines == ["pipe: too late for the whole stream: 1,024 bytes went by before"]
    assert late.output == ""
    assert statuses(writer, early) == [Status.OK] * 2
    assert early.stdout.size == 1028


def test_publisher_says_that_nobody_is_left(server: Server) -> None:
    """It tells how much went by, waits for another reader, and in the end gives up as ever."""
    writer, early = begun(server, "pub -t 2s film")
    early.kill()

    assert writer.wait() == Status.TIMEOUT
    assert writer.lines[-2:] == [
        "pipe: no subscriber left after 1,024 bytes; waiting for another, up to 2s",
        "pipe: gave up: 1 subscriber still missing after 2s",
    ]


@pytest.mark.data_path
def test_file_is_given_whole_or_not_at_all(server: Server, blob: Blob) -> None:
    """A `pub -w` of a file breaks with 74 when its only reader is gone in the middle."""
    reader = server.ssh("alice", "sub -w film", reading=False)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub --whole film", stdin=blob.path)
    server.wait_metric("pipe_clogged_subscribers", 1)
    reader.kill()

    assert writer.wait() == Status.BROKEN
    assert "no subscriber left after" in writer.lines[-1]
    assert "--whole" in writer.lines[-1]
