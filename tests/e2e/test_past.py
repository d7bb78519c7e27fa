"""Readers that come late, with real clients: no hole, no repeated byte, and the truth otherwise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .payloads import MIB, noise, sha256, write_blob
from .processes import HELD, Pace, statuses, wait_until
from .server import Server, Status

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import StartServer
    from .payloads import Blob
    from .processes import Process

pytestmark = [pytest.mark.e2e, pytest.mark.data_path]


def stream_of(server: Server, topic: str) -> str:
    """The identifier of what a topic carries."""
    found = re.search(r"stream ([0-9a-f]{12})", server.run("alice", f"explain {topic}").output)
    assert found
    return found[1]


def begun(server: Server, text: bytes, flags: str = "") -> Process:
    """A publisher without readers that has sent something, and keeps it."""
    writer = server.ssh("alice", f"pub -b=false --keep 1MiB {flags} film", stdin=HELD)
    writer.write(text)
    server.wait_metric("pipe_kept_bytes", len(text))
    return writer


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--last 4", "ine\n"),
        ("--last 2l", "second\nnine\n"),
        ("--last 1MiB", "first\nsecond\nnine\n"),
        ("--last 0", ""),
        ("--from 0", "first\nsecond\nnine\n"),
        ("--from 6", "second\nnine\n"),
        ("--from 18", ""),
    ],
)
def test_late_reader_gets_the_past_and_the_rest(server: Server, flags: str, text: str) -> None:
    """It gets so much of what went by, then what comes, and ends with the stream."""
    writer = begun(server, b"first\nsecond\nnine\n")
    reader = server.ssh("alice", f"sub {flags} film")
    server.wait_sessions(subscribe=1)
    writer.write(b"rest")
    writer.close_stdin()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.output == f"{text}rest"


def test_byte_that_is_not_there(server: Server) -> None:
    """75, and a line with what there is."""
    writer = begun(server, b"x" * 100)
    stream = stream_of(server, "film")
    late = server.run("alice", "sub --from 101 film")
    assert late.wait() == Status.TIMEOUT
    assert late.lines == [f"pipe: byte 101 has not come: stream {stream} has bytes 0 to 100"]
    other = server.run("alice", "sub --from 5 --stream 0123456789ab film")
    assert other.wait() == Status.TIMEOUT
    writer.close_stdin()
    assert writer.wait() == Status.OK


def test_stream_outlives_its_publisher(server: Server) -> None:
    """With --linger it can be read as often as one likes, and each reader ends at its end."""
    writer = begun(server, b"hello\n", "--linger 1h -x 3")
    writer.close_stdin()
    assert writer.wait() == Status.OK
    for _ in range(2):
        reader = server.run("alice", "sub --from 0 film")
        assert reader.wait() == 3
        assert reader.output == "hello\n"
    assert server.run("alice", "pub -b=false -e --keep 1 film").wait() == Status.OK  # no --linger
    server.wait_metric("pipe_topics", 0)


def test_file_is_read_late(start_server: StartServer, blob: Blob) -> None:
    """Readers that come at any time during a transfer have all of it, each at its own pace."""
    server = start_server(max_keep="64MiB", max_keep_per_user="64MiB")
    first = server.ssh("alice", "sub film", pace=Pace(1 << 16, 0.05))  # holds the writer up
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub --keep 64MiB film", stdin=blob.path)
    wait_until(lambda: server.metrics().value("pipe_kept_bytes"), "something is kept")
    readers = [server.ssh("alice", "sub --from 0 film") for _ in range(3)]
    server.wait_sessions(subscribe=4)
    first.stdout.hurry()
    assert statuses(writer, first, *readers) == [Status.OK] * 5
    assert {one.stdout.sha256 for one in (first, *readers)} == {blob.sha256}


@pytest.mark.parametrize("cuts", [3])
def test_reader_goes_on_after_each_cut(
    start_server: StartServer, tmp_path: Path, cuts: int
) -> None:
    """A reader whose `ssh` is killed again and again goes on where its file ends: no byte is lost.

    Its publisher waits for it, and the ring has what was on its way.
    """
    server = start_server()
    blob = write_blob(tmp_path / "noise", (cuts + 1) * 8 * MIB)
    writer = server.ssh("alice", "pub --keep 16MiB --linger 1h film", stdin=blob.path)
    server.wait_waiting()
    stream = stream_of(server, "film")
    file = bytearray()
    for _ in range(cuts):
        reader = server.ssh(
            "alice", f"sub --from {len(file)} --stream {stream} film", pace=Pace(1 << 18, 0.005)
        )
        reader.wait_stdout(7 * MIB)
        reader.kill()
        file += reader.stdout.data
    last = server.ssh("alice", f"sub --from {len(file)} --stream {stream} film")
    assert last.wait() == Status.OK
    assert sha256(bytes(file) + last.stdout.data) == blob.sha256
    assert writer.wait() in {
        Status.OK,
        Status.BROKEN,
    }  # it ended before the last reader came, or after


@pytest.mark.parametrize("cuts", [3])
def test_publisher_goes_on_after_each_cut(start_server: StartServer, cuts: int) -> None:
    """A publisher whose `ssh` is killed goes on where it was, and its reader notices nothing."""
    server = start_server()
    data = noise((cuts + 1) * 8 * MIB)
    reader = server.ssh("alice", "sub film")
    server.wait_sessions(subscribe=1)
    offset = 0
    for cut in range(1, cuts + 1):
        writer = server.ssh("alice", f"pub --hold 1h --at {offset} film", stdin=HELD)
        writer.write(data[offset : 8 * MIB * cut])
        reader.wait_stdout(8 * MIB * cut - 4 * MIB)
        writer.kill()
        server.wait_lines("session ended", cut, mode="publish")
        offset = int(server.run("alice", "offset film").output)
    wrong = server.run("alice", f"pub --at {offset + 1} film")
    assert wrong.wait() == Status.TIMEOUT
    assert f"goes on with byte {offset}, not {offset + 1}" in wrong.text
    last = server.ssh("alice", f"pub --at {offset} film", stdin=data[offset:])
    assert statuses(last, reader) == [Status.OK] * 2
    assert reader.stdout.sha256 == sha256(data)


def test_hold_ends(server: Server) -> None:
    """When its time is over the stream is broken: 74."""
    reader = server.ssh("alice", "sub film")
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub --hold 500ms film", stdin=HELD)
    writer.write(b"x")
    reader.wait_stdout(1)
    writer.kill()
    assert reader.wait() == Status.BROKEN
    assert server.run("alice", "offset film").wait() == Status.TIMEOUT


def test_hold_belongs_to_its_user(server: Server) -> None:
    """Another user cannot go on with it."""
    server.introduce("bob")
    reader = server.ssh("alice", "sub film")
    server.wait_sessions(subscribe=1)
    assert server.run("alice", "grant film bob --write").wait() == Status.OK
    writer = server.ssh("alice", "pub --hold 1h film", stdin=HELD)
    writer.write(b"x")
    reader.wait_stdout(1)
    writer.kill()
    other = server.run("bob", "pub --at 1 alice/film")
    assert other.wait() == Status.TIMEOUT
    assert server.run("alice", "pub -e --at 1 film").wait() == Status.OK
    assert reader.wait() == Status.OK
    assert server.run("alice", "revoke film bob").wait() == Status.OK
