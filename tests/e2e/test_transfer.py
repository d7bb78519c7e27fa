"""Bytes, order and the drained end: everybody reads what was written, to the last byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .payloads import EVERY_BYTE, GIB, KIB, MIB, Alphabet, alphabets, noise, sha256, write_blob
from .processes import HELD, SMALL_PIPE, Pace, statuses
from .server import Server, Status

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import StartServer
    from .payloads import Blob

pytestmark = [pytest.mark.e2e, pytest.mark.data_path]

MEMORY_BOUND = 128 * MIB
"""Resident memory that no process of a server under a few streams needs, however long they are."""

ODD_SIZES = (
    *(1, 2, 3, 255, 256, 1023, 4097),
    *(32767, 32768, 32769, 65535, 65537, 98304, 131071),
    *(262145, 1048575, 1048577, 2097153, 5000011, 12345679),
)
"""Bytes, around the sizes of packets, windows and pipes, where an end is most easily lost."""


@pytest.mark.parametrize(
    "size", [64 * MIB, pytest.param(GIB, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_three_subscribers_get_a_large_stream_whole(
    start_server: StartServer, tmp_path: Path, size: int, big: bool
) -> None:
    """Three readers get all bytes and status 0, the writer a receipt, and memory stays small."""
    if size >= GIB and not big:
        pytest.skip("PIPE_TEST_BIG=1 allows gigabytes")
    server = start_server()
    source = write_blob(tmp_path / "noise", size)
    readers = [server.ssh("alice", "sub backup", keep=False) for _ in range(3)]
    server.wait_sessions(subscribe=3)
    writer = server.ssh("alice", "pub backup", stdin=source.path)

    assert statuses(writer, *readers, timeout=900) == [Status.OK] * 4
    assert [reader.stdout.size for reader in readers] == [size] * 3
    assert [reader.stdout.sha256 for reader in readers] == [source.sha256] * 3
    assert f"sent {size} bytes to 3 subscribers" in writer.lines[-1]
    assert writer.output == ""
    assert server.peak_rss_bytes() < MEMORY_BOUND * len(server.pids)


@pytest.mark.parametrize("size", ODD_SIZES)
def test_slow_reader_gets_the_last_byte_before_the_receipt(server: Server, size: int) -> None:
    """A reader that pauses between reads gets everything, and the writer's receipt comes after."""
    data = noise(size)
    pace = Pace(piece=max(1, min(size // 16, SMALL_PIPE)), pause=0.001)
    reader = server.ssh("alice", "sub slow", pace=pace)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub slow", stdin=data)

    writer.wait_stderr(rf"sent {size} bytes? to 1 subscriber\b")
    assert reader.stdout.arrived() == size
    assert statuses(writer, reader) == [Status.OK] * 2
    assert sha256(reader.stdout.data) == sha256(data)


def test_publisher_stays_until_its_reader_has_read(server: Server) -> None:
    """While a reader has not read, its writer has neither a receipt nor an exit status."""
    data = noise(100_000)
    reader = server.ssh("alice", "sub patient", reading=False)
    server.wait_sessions(subscribe=1)
    before = server.metrics().value("pipe_delivered_bytes_total")
    writer = server.ssh("alice", "pub patient", stdin=data)
    server.wait_metric("pipe_delivered_bytes_total", before + len(data))

    assert server.run("alice", "ls").wait() == Status.OK  # the server has had time for an end
    assert writer.running
    assert "sent" not in writer.text
    reader.stdout.start_reading()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == data


def test_every_byte_value_passes(server: Server) -> None:
    """No byte value is taken for a command, a line's end or an end of file."""
    data = EVERY_BYTE * 300 + bytes(reversed(EVERY_BYTE)) + b"\r\n~.\x04\x03\x1a"
    [reader] = server.subscribe("alice", "sub bytes")
    writer = server.ssh("alice", "pub bytes", stdin=data)

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == data


def test_empty_stream_ends_its_readers(server: Server) -> None:
    """A writer whose stdin is empty sends an end of file and nothing else."""
    [reader] = server.subscribe("alice", "sub nothing")
    writer = server.ssh("alice", "pub nothing")

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.size == 0
    assert "sent 0 bytes" in writer.text


def test_stalled_reader_slows_its_writer_and_is_bounded(server: Server, blob: Blob) -> None:
    """A reader that does not read stops the writer; what lies in between is a few MiB at most."""
    before = server.metrics().value("pipe_received_bytes_total")
    reader = server.ssh("alice", "sub stalled", reading=False, keep=False)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub stalled", stdin=blob.path)
    server.wait_metric("pipe_clogged_subscribers", 1)

    assert server.metrics().value("pipe_send_buffer_bytes") <= 4 * MIB
    assert server.metrics().value("pipe_received_bytes_total") - before < blob.size / 2
    reader.stdout.start_reading()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.sha256 == blob.sha256
    assert server.metrics().value("pipe_publisher_paused_seconds_total") > 0


def test_killed_reader_costs_the_others_nothing(server: Server, blob: Blob) -> None:
    """A reader that is killed while all wait for it lets the others go on to the end."""
    readers = [server.ssh("alice", "sub crowd", keep=False) for _ in range(2)]
    victim = server.ssh("alice", "sub crowd", keep=False, reading=False)
    server.wait_sessions(subscribe=3)
    writer = server.ssh("alice", "pub crowd", stdin=blob.path)
    server.wait_metric("pipe_clogged_subscribers", 1)
    victim.kill()

    assert statuses(writer, *readers) == [Status.OK] * 3
    assert [reader.stdout.sha256 for reader in readers] == [blob.sha256] * 2
    assert f"sent {blob.size} bytes" in writer.text


def test_killed_publisher_breaks_the_stream(server: Server) -> None:
    """Readers of a writer that vanishes in mid-stream exit 74 and are told why."""
    data = noise(MIB)
    readers = server.subscribe("alice", "sub torn", count=2)
    writer = server.ssh("alice", "pub torn", stdin=HELD)
    writer.write(data)
    for reader in readers:
        reader.wait_stdout(len(data))
    writer.kill()

    assert statuses(*readers) == [Status.BROKEN] * 2
    assert [reader.stdout.data for reader in readers] == [data] * 2
    for reader in readers:
        assert "broke" in reader.lines[-1]


def test_two_publishers_share_a_topic(server: Server) -> None:
    """Both readers get both writers' bytes, each writer's in their order and without a hole."""
    letters = alphabets(2)
    streams = [letter.noise(5 * MIB, seed) for seed, letter in enumerate(letters)]
    writers = [server.ssh("alice", "pub -m 2 shared", stdin=stream) for stream in streams]
    server.wait_sessions(publish=2)
    readers = server.subscribe("alice", "sub shared", count=2)

    assert statuses(*writers, *readers) == [Status.OK] * 4
    for reader in readers:
        assert reader.stdout.size == 10 * MIB
        assert_each_in_order(reader.stdout.data, letters, streams)


def test_ten_members_of_a_room_hear_each_other(server: Server, big: bool) -> None:
    """Ten `pipe` members get the bytes of the nine others, each in order, and never their own."""
    size = 10 * MIB if big else MIB
    letters = alphabets(10)
    streams = [letter.noise(size, seed) for seed, letter in enumerate(letters)]
    members = []
    for _ in letters:
        members.append(server.ssh("alice", "pipe room", stdin=HELD))
        server.wait_sessions(pipe=len(members))
    for member, stream in zip(members, streams, strict=True):
        member.write(stream)
    for member in members:
        member.wait_stdout(9 * size)

    for own, member in enumerate(members):
        expected = [b"" if sender == own else stream for sender, stream in enumerate(streams)]
        assert member.stdout.size == 9 * size
        assert_each_in_order(member.stdout.data, letters, expected)


def assert_each_in_order(mixture: bytes, letters: list[Alphabet], streams: list[bytes]) -> None:
    """Each sender's stream is in the mixture, in its order and without a hole."""
    for letter, stream in zip(letters, streams, strict=True):
        assert sha256(letter.pick(mixture)) == sha256(stream)


def test_replay_gives_a_member_its_own_bytes(server: Server) -> None:
    """With `-r` a member hears itself as well as the others."""
    echo = server.ssh("alice", "pipe -r room", stdin=HELD)
    server.wait_sessions(pipe=1)
    echo.write(b"one ")
    echo.wait_stdout(4)
    other = server.ssh("alice", "pipe room", stdin=HELD)
    server.wait_sessions(pipe=2)
    other.write(b"two ")
    echo.wait_stdout(8)
    echo.write(b"three")
    echo.wait_stdout(13)
    other.wait_stdout(5)

    assert echo.stdout.data == b"one two three"
    assert other.stdout.data == b"three"


def test_member_stays_when_its_last_companion_leaves(server: Server) -> None:
    """A `pipe` that is alone again goes on, and hears who comes next."""
    first = server.ssh("alice", "pipe room", stdin=HELD)
    second = server.ssh("alice", "pipe room", stdin=HELD)
    server.wait_sessions(pipe=2)
    second.write(b"hello ")
    first.wait_stdout(6)
    second.kill()
    server.wait_sessions(pipe=1)
    third = server.ssh("alice", "pipe room", stdin=HELD)
    server.wait_sessions(pipe=2)
    third.write(b"again")
    first.wait_stdout(11)
    first.write(b"welcome")
    third.wait_stdout(7)

    assert first.stdout.data == b"hello again"
    assert first.running
    assert third.running


def test_member_without_stdin_still_receives(server: Server) -> None:
    """A `pipe` whose stdin has ended goes on as a reader."""
    listener = server.ssh("alice", "pipe room", stdin=HELD)
    speaker = server.ssh("alice", "pipe room", stdin=HELD)
    server.wait_sessions(pipe=2)
    listener.write(b"my last words")
    listener.close_stdin()
    speaker.wait_stdout(13)
    speaker.write(EVERY_BYTE * 1000)
    listener.wait_stdout(256_000)

    assert listener.stdout.data == EVERY_BYTE * 1000
    assert listener.running
    assert speaker.running


def test_member_is_read_by_subscribers_and_reads_publishers(server: Server) -> None:
    """`pipe`, `pub` and `sub` meet on one topic: a `pipe` is both of the others."""
    member = server.ssh("alice", "pipe mixed", stdin=HELD)
    server.wait_sessions(pipe=1)
    [reader] = server.subscribe("alice", "sub mixed")
    member.write(b"from the member, ")
    reader.wait_stdout(17)
    assert server.run("alice", "pub mixed", stdin=b"from a writer").wait() == Status.OK
    member.wait_stdout(13)
    reader.wait_stdout(30)

    assert member.stdout.data == b"from a writer"
    assert reader.stdout.data == b"from the member, from a writer"


def test_dropping_reader_is_told_how_much_it_lost(server: Server, blob: Blob) -> None:
    """`-s drop` never slows the writer; the reader exits 75 with the exact count of lost bytes."""
    before = server.metrics()
    reader = server.ssh("alice", "sub -s drop lossy", reading=False, keep=False)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub lossy", stdin=blob.path)
    server.wait_metric(
        "pipe_received_bytes_total", before.value("pipe_received_bytes_total") + blob.size
    )
    reader.stdout.start_reading()

    assert statuses(writer, reader) == [Status.OK, Status.TIMEOUT]
    lost = blob.size - reader.stdout.size
    assert 0 < lost < blob.size
    assert str(lost) in reader.text
    dropped = "pipe_dropped_bytes_total"
    assert server.metrics().value(dropped) - before.value(dropped) == lost


def test_reader_may_ask_to_be_cut_off(server: Server, blob: Blob) -> None:
    """`-s disconnect` ends a reader that falls behind with 74, and the others go on unslowed."""
    hasty = server.ssh("alice", "sub -s disconnect busy", reading=False, keep=False)
    patient = server.ssh("alice", "sub busy", keep=False)
    server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub busy", stdin=blob.path)

    assert statuses(writer, patient) == [Status.OK] * 2
    assert patient.stdout.sha256 == blob.sha256
    assert hasty.wait() == Status.BROKEN
    assert hasty.stdout.size < blob.size


def test_chunks_keep_their_bytes_when_sizes_vary(server: Server) -> None:
    """Many writes of odd sizes, each waited for, arrive one after the other as they were made."""
    [reader] = server.subscribe("alice", "sub drip")
    writer = server.ssh("alice", "pub drip", stdin=HELD)
    sent = b""
    for size in (1, 7, 100, 8 * KIB, 3, 40 * KIB, 1):
        piece = noise(size, seed=size)
        writer.write(piece)
        sent += piece
        reader.wait_stdout(len(sent))
    writer.close_stdin()

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == sent
