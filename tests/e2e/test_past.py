"""Readers that come late, with real clients: no hole, no repeated byte, and the truth otherwise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.hostile.proxy import Proxy, Weather

from .payloads import MIB, noise, sha256
from .processes import HELD, Pace, statuses, wait_until
from .server import Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer
    from .payloads import Blob
    from .processes import Process

pytestmark = [pytest.mark.e2e, pytest.mark.data_path]


def stream_of(server: Server, topic: str) -> str:
    """The identifier of what a topic carries."""
    found = re.search(r"stream ([0-9a-f]{12})", server.run("alice", f"explain {topic}").output)
    assert found
    return found[1]


def lose(server: Server, client: Process, mode: str = "subscribe") -> None:
    """Kill a client, and return once the server knows."""
    ended = len(server.lines("session ended", mode=mode))
    client.kill()
    server.wait_lines("session ended", ended + 1, mode=mode)


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
def test_reader_goes_on_after_each_cut(server: Server, cuts: int) -> None:
    """A reader whose `ssh` is killed again and again goes on where its file ends: no byte is lost.

    Its publisher waits for it, and the ring has what was on its way.
    """
    data = noise((cuts + 1) * 8 * MIB)
    writer = server.ssh("alice", "pub --keep 16MiB --linger 1h film", stdin=HELD)
    server.wait_waiting()
    stream = stream_of(server, "film")
    file = b""
    for cut in range(1, cuts + 1):
        reader = server.ssh("alice", f"sub --from {len(file)} --stream {stream} film")
        writer.write(data[8 * MIB * (cut - 1) : 8 * MIB * cut])
        reader.wait_stdout(8 * MIB * cut - 3 * MIB - len(file))
        reader.kill()
        file += reader.stdout.data
    writer.write(data[8 * MIB * cuts :])
    last = server.ssh("alice", f"sub --from {len(file)} --stream {stream} film")
    server.wait_sessions(subscribe=1)
    writer.close_stdin()
    assert statuses(last, writer) == [Status.OK] * 2
    assert sha256(file + last.stdout.data) == sha256(data)
    assert server.run("alice", "pub -b=false -e --keep 1 film").wait() == Status.OK  # no --linger


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
        lose(server, writer, "publish")
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


@pytest.mark.parametrize("cuts", [3])
def test_reader_that_is_held_misses_nothing(server: Server, cuts: int) -> None:
    """With --hold the publisher waits for a reader that is lost, although another reads on."""
    data = noise((cuts + 1) * 8 * MIB)
    reader = server.ssh("alice", "sub --from 0 --hold 1h film")
    stream = reader.wait_stderr(r"stream ([0-9a-f]{12})")[1]
    other = server.ssh("alice", "sub film", keep=False)
    server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub -m 2 --keep 5MiB film", stdin=HELD)
    writer.write(data[: 8 * MIB])
    file = b""
    for cut in range(1, cuts + 1):
        reader.wait_stdout(8 * MIB * cut - 3 * MIB - len(file))
        lose(server, reader)
        writer.write(data[8 * MIB * cut : 8 * MIB * (cut + 1)])
        file += reader.stdout.data
        flags = f"--from {len(file)} --stream {stream} --hold 1h"
        reader = server.ssh("alice", f"sub {flags} film")
    writer.close_stdin()
    assert statuses(reader, other, writer) == [Status.OK] * 3
    assert sha256(file + reader.stdout.data) == sha256(data) == other.stdout.sha256
    assert "to 2 subscribers\n" in writer.text


def test_held_reader_is_given_up(server: Server) -> None:
    """When its time is over, or its right to read, publishers wait no longer."""
    server.introduce("bob")
    assert server.run("alice", "grant film bob --read").wait() == Status.OK
    for user, topic, flags in (("alice", "film", "500ms"), ("bob", "alice/film", "1h")):
        reader = server.ssh(user, f"sub --hold {flags} {topic}")
        server.wait_sessions(subscribe=1)
        writer = server.ssh("alice", "pub --keep 1MiB film", stdin=HELD)
        writer.write(b"x")
        reader.wait_stdout(1)
        lose(server, reader)
        writer.close_stdin()
        if user == "bob":
            assert server.run("alice", "revoke film bob").wait() == Status.OK
        assert writer.wait() == Status.BROKEN
        assert "1 of them left early" in writer.text


def test_guest_holds_nobody_up_by_going_away(start_server: StartServer) -> None:
    """A reader of another user's topic is given up as one that is slow, if others wait for it."""
    server = start_server(stall_timeout="1s")
    server.introduce("bob")
    assert server.run("alice", "grant film bob --read").wait() == Status.OK
    guest = server.ssh("bob", "sub --hold 1h alice/film")
    other = server.ssh("alice", "sub film", keep=False)
    server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub -m 2 --keep 1MiB film", stdin=HELD)
    writer.write(b"x")
    guest.wait_stdout(1)
    guest.kill()
    data = noise(8 * MIB)
    writer.write(data)
    writer.close_stdin()
    assert statuses(writer, other) == [Status.OK] * 2
    assert other.stdout.sha256 == sha256(b"x" + data)


def test_reader_that_cannot_be_held(server: Server) -> None:
    """It is told so, if nothing is kept of what goes by."""
    writer = server.ssh("alice", "pub -b=false film", stdin=HELD)
    writer.write(b"x")
    server.wait_sessions(publish=1)
    reader = server.ssh("alice", "sub --hold 1h film")
    reader.wait_stderr("nothing is kept of alice/film, so no place in it can be held")
    writer.close_stdin()
    assert statuses(writer, reader) == [Status.OK] * 2


def test_two_readers_resume_one_place(server: Server) -> None:
    """The second gets what the ring has, as anybody does; neither gets a wrong byte."""
    writer = begun(server, b"hello")
    lost = server.ssh("alice", "sub --from 0 --hold 1h film")
    lost.wait_stdout(5)
    lose(server, lost)
    heirs = [server.ssh("alice", "sub --from 3 --hold 1h film") for _ in range(2)]
    server.wait_sessions(subscribe=2)
    writer.write(b" world")
    writer.close_stdin()
    assert statuses(writer, *heirs) == [Status.OK] * 3
    assert [heir.output for heir in heirs] == ["lo world"] * 2


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("sub --hold 1h -k film", "--hold is for one stream"),
        ("sub --hold 1h -s drop film", "--hold waits for this reader"),
        ("sub --hold 1h 'film*'", "--hold is for one topic"),
        ("sub --hold 25h film", "at most 1d"),
    ],
)
def test_hold_that_means_nothing(server: Server, command: str, text: str) -> None:
    """64, with what is wrong."""
    reader = server.run("alice", command)
    assert reader.wait() == Status.USAGE
    assert text in reader.text


def test_receipt_waits_for_its_publisher(server: Server) -> None:
    """One that was lost after its last byte asks for the receipt, as often as it has to."""
    reader = server.ssh("alice", "sub film", reading=False)
    server.wait_sessions(subscribe=1)
    data = noise(MIB // 2)  # less than a client takes
    writer = server.ssh("alice", "pub --hold 1h film", stdin=data)
    wait_until(
        lambda: server.run("alice", "offset film").output == f"{len(data)}\n", "all is taken"
    )
    lose(server, writer, "publish")
    assert int(server.run("alice", "offset film").output) == len(data)
    second = server.ssh(
        "alice",
        f"pub --hold 1h --at {len(data)} film",
        stdin=b"",
        options=("-o", "LogLevel=DEBUG2"),
    )
    second.wait_stderr("exec request accepted")  # now there is a session that can be lost
    wrong = server.run("alice", f"pub --hold 1h --at {len(data)} film", stdin=b"more")
    assert wrong.wait() == Status.TIMEOUT
    lose(server, second, "publish")
    third = server.ssh("alice", f"pub --hold 1h --at {len(data)} film", stdin=b"")
    assert statuses(reader, third) == [Status.OK] * 2
    assert f"sent {len(data)} bytes to 1 subscriber\n" in third.text
    fourth = server.run("alice", f"pub --at {len(data)} film", stdin=b"")
    assert fourth.wait() == Status.OK
    assert server.run("alice", "offset film").output == f"{len(data)}\n"
    assert server.run("alice", f"pub --at {len(data)} film", stdin=b"").lines == third.lines


# A connection that is dead, and the server does not know


@pytest.mark.parametrize("size", [64 * MIB])
def test_publisher_goes_on_while_its_old_connection_seems_open(server: Server, size: int) -> None:
    """Who comes with --at is the publisher: the session that hears nothing more is ended."""
    data = noise(size)
    reader = server.ssh("alice", "sub film", keep=False)
    server.wait_sessions(subscribe=1)
    with Proxy(server.port, Weather(vanish_after=8 * MIB)) as proxy:
        options = ("-p", str(proxy.port))
        old = server.ssh("alice", "pub --hold 1h film", stdin=data, options=options)
        reader.wait_stdout(7 * MIB)
        status: int = Status.TIMEOUT
        while status == Status.TIMEOUT:  # what is on its way still arrives
            offset = int(server.run("alice", "offset film").output)
            new = server.ssh("alice", f"pub --hold 1h --at {offset} film", stdin=data[offset:])
            status = new.wait()
        assert [status, reader.wait()] == [Status.OK] * 2
        assert reader.stdout.sha256 == sha256(data)
        old.kill()


def test_reader_goes_on_while_its_old_connection_seems_open(start_server: StartServer) -> None:
    """It has what the ring has at once; the rest comes when the dead one is given up (law 4)."""
    server = start_server(stall_timeout="1s")
    data = noise(64 * MIB)
    with Proxy(server.port, Weather(vanish_after=8 * MIB)) as proxy:
        options = ("-p", str(proxy.port))
        old = server.ssh("alice", "sub --from 0 --hold 1h film", options=options)
        stream = old.wait_stderr(r"stream ([0-9a-f]{12})")[1]
        writer = server.ssh("alice", "pub --keep 8MiB film", stdin=data)
        wait_until(lambda: proxy.frozen, "the line is dead")
        old.kill()  # of which the server hears nothing
        file = old.stdout.data
        new = server.ssh("alice", f"sub --from {len(file)} --stream {stream} --hold 1h film")
        assert statuses(new, writer) == [Status.OK] * 2
        assert sha256(file + new.stdout.data) == sha256(data)


def test_publisher_that_is_lost_while_it_waits(server: Server) -> None:
    """It is held before its first byte, too: a reader that comes waits, and gets all of it."""
    writer = server.ssh("alice", "pub --hold 1h film", stdin=b"hello")
    server.wait_waiting()
    lose(server, writer, "publish")
    assert server.run("alice", "offset film").output == "0\n"
    reader = server.ssh("alice", "sub film")
    server.wait_sessions(subscribe=1)
    again = server.ssh("alice", "pub --hold 1h --at 0 film", stdin=b"hello")
    assert statuses(again, reader) == [Status.OK] * 2
    assert reader.output == "hello"
