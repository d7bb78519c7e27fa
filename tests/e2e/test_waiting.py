"""Publishers that wait, and how their bytes are dealt out: `-b -t -m -e -x -k`, and round robin."""

from __future__ import annotations

import collections
import itertools
import re

import pytest

from .payloads import MIB, noise
from .processes import HELD, Process, statuses
from .server import Server, Status

pytestmark = pytest.mark.e2e


def test_publisher_says_that_it_waits_and_is_woken(server: Server) -> None:
    """Without a reader `pub` tells how to subscribe and that it waits; one that comes starts it."""
    writer = server.ssh("alice", "pub door", stdin=b"come in")
    writer.wait_stderr(r"sub \S*door\b")
    writer.wait_stderr("(?i)wait")
    server.wait_waiting()
    reader = server.ssh("alice", "sub door")

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"come in"
    assert re.search(r"sent 7 bytes to 1 subscriber\b", writer.text)
    assert writer.output == ""


def test_publisher_gives_up_when_nobody_comes(server: Server) -> None:
    """`-t 300ms` with nobody there: status 75 and a line that says why."""
    writer = server.run("alice", "pub -t 300ms nobody", stdin=b"hello?")

    assert writer.wait() == Status.TIMEOUT
    assert re.search("300 ?ms|0.3 ?s|nobody|no subscriber", writer.lines[-1])


def test_timeout_ends_with_the_first_reader(server: Server) -> None:
    """`-t` bounds the wait for a reader, not the stream: one that has begun may take longer."""
    [reader] = server.subscribe("alice", "sub late")
    writer = server.ssh("alice", "pub -t 300ms late", stdin=HELD)
    writer.write(b"begun, ")
    reader.wait_stdout(7)
    # A writer that starts now and times out shows that more time than that has gone by.
    assert server.run("alice", "pub -t 600ms elsewhere").wait() == Status.TIMEOUT
    writer.write(b"done")
    writer.close_stdin()

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"begun, done"


def test_publisher_waits_for_as_many_as_it_wants(server: Server) -> None:
    """`-m 3` reads no byte before the third reader is there."""
    before = server.metrics().value("pipe_received_bytes_total")
    writer = server.ssh("alice", "pub -m 3 trio", stdin=b"all three")
    server.wait_waiting()
    readers = server.subscribe("alice", "sub trio", count=2)

    assert server.run("alice", "ls").wait() == Status.OK  # time in which it could go wrong
    assert server.metrics().value("pipe_waiting_publishers") == 1
    assert server.metrics().value("pipe_received_bytes_total") == before
    assert [reader.stdout.size for reader in readers] == [0, 0]
    readers.append(server.ssh("alice", "sub trio"))
    assert statuses(writer, *readers) == [Status.OK] * 4
    assert [reader.stdout.data for reader in readers] == [b"all three"] * 3
    assert "waiting for 3 subscribers" in writer.text
    assert "enough subscribers are here" in writer.text


def test_non_blocking_publisher_sends_to_nobody(server: Server) -> None:
    """`-b=false` with nobody there takes everything, delivers nothing and ends well."""
    before = server.metrics()
    writer = server.run("alice", "pub -b=false void", stdin=noise(3 * MIB))
    after = server.metrics()

    assert writer.wait() == Status.OK
    assert "0 subscribers" in writer.lines[-1]
    received, delivered = "pipe_received_bytes_total", "pipe_delivered_bytes_total"
    assert after.value(received) - before.value(received) == 3 * MIB
    assert after.value(delivered) == before.value(delivered)


def test_non_blocking_publisher_goes_on_without_readers(server: Server) -> None:
    """With `-b=false` what comes while nobody is there is lost; the next reader gets the rest."""
    [first] = server.subscribe("alice", "sub radio")
    writer = server.ssh("alice", "pub -b=false radio", stdin=HELD)
    writer.write(b"one")
    first.wait_stdout(3)
    first.kill()
    server.wait_sessions(subscribe=0)
    received = server.metrics().value("pipe_received_bytes_total")
    writer.write(b"lost")
    server.wait_metric("pipe_received_bytes_total", received + 4)
    [second] = server.subscribe("alice", "sub radio")
    writer.write(b"two")
    writer.close_stdin()

    assert statuses(writer, second) == [Status.OK] * 2
    assert second.stdout.data == b"two"


def test_empty_message_only_ends_the_waiting(server: Server) -> None:
    """`pub -e` reads no stdin, sends no byte, and ends the readers with status 0."""
    readers = server.subscribe("alice", "sub bell", count=2)
    writer = server.ssh("alice", "pub -e bell", stdin=HELD)

    assert statuses(writer, *readers) == [Status.OK] * 3
    assert [reader.stdout.size for reader in readers] == [0, 0]


def test_publisher_gives_its_readers_a_status(server: Server) -> None:
    """`pub -x 3`: the writer ends with 0, its readers with 3."""
    readers = server.subscribe("alice", "sub verdict", count=2)
    writer = server.ssh("alice", "pub -x 3 verdict", stdin=b"no")

    assert statuses(writer, *readers) == [Status.OK, 3, 3]
    assert [reader.stdout.data for reader in readers] == [b"no"] * 2


def test_first_status_that_is_not_zero_wins(server: Server) -> None:
    """Of two writers the one that ends first with a status other than 0 gives it to the reader."""
    [reader] = server.subscribe("alice", "sub verdict")
    second = server.ssh("alice", "pub --exit 5 verdict", stdin=HELD)
    second.write(b"x")
    reader.wait_stdout(1)
    first = server.ssh("alice", "pub --exit=4 verdict", stdin=b"y")
    reader.wait_stdout(2)
    server.wait_sessions(publish=1)
    second.close_stdin()

    assert statuses(first, second, reader) == [Status.OK, Status.OK, 4]


def test_reader_that_stays_hears_publisher_after_publisher(server: Server) -> None:
    """`sub -k` outlives the writers, each of which ends well while it stays."""
    [reader] = server.subscribe("alice", "sub -k series")
    for word in (b"one ", b"two ", b"three"):
        assert server.run("alice", "pub series", stdin=word).wait() == Status.OK
    reader.wait_stdout(13)

    assert reader.stdout.data == b"one two three"
    assert reader.running


def test_reader_stays_while_a_publisher_is_left(server: Server) -> None:
    """`sub` ends with the last writer, not with the first."""
    [reader] = server.subscribe("alice", "sub both")
    long = server.ssh("alice", "pub both", stdin=HELD)
    long.write(b"one ")
    reader.wait_stdout(4)
    short = server.ssh("alice", "pub both", stdin=b"two ")
    reader.wait_stdout(8)
    server.wait_sessions(publish=1)
    long.write(b"three")
    long.close_stdin()

    assert statuses(short, long, reader) == [Status.OK] * 3
    assert reader.stdout.data == b"one two three"


def deal(server: Server, topic: str, flags: str, data: bytes) -> list[Process]:
    """Send `data` to three readers that are all there at the first byte; return them, ended."""
    readers = server.subscribe("alice", f"sub {topic}", count=3)
    writer = server.ssh("alice", f"pub {flags} {topic}", stdin=data)
    assert statuses(writer, *readers) == [Status.OK] * 4
    return readers


@pytest.mark.parametrize(("frame", "end"), [("line", b"\n"), ("nul", b"\0")])
def test_round_robin_deals_whole_records(server: Server, frame: str, end: bytes) -> None:
    """Each record goes to exactly one of three readers, whole and in turn from the first on."""
    other = b"\0" if end == b"\n" else b"\n"
    records = [b"%d:" % number + b"x" * (number * 37 % 5000) + other for number in range(300)]
    flags = f"-d round_robin --frame {frame}"
    readers = deal(server, "work", flags, b"".join(record + end for record in records))

    shares = [reader.stdout.data.split(end) for reader in readers]
    assert [share.pop() for share in shares] == [b""] * 3
    assert collections.Counter(itertools.chain(*shares)) == collections.Counter(records)
    assert [len(share) for share in shares] == [100] * 3
    place = {record: number for number, record in enumerate(records)}
    for share in shares:
        numbers = [place[record] for record in share]
        assert numbers == list(range(numbers[0], 300, 3))


def test_round_robin_keeps_large_records_whole(server: Server) -> None:
    """A record of many packets' size goes to one reader only."""
    records = [bytes([65 + number]) * 300_000 + b"\n" for number in range(12)]
    readers = deal(server, "loads", "-d round_robin --frame line", b"".join(records))

    got = [reader.stdout.data.splitlines(keepends=True) for reader in readers]
    assert sorted(itertools.chain(*got)) == records


def test_last_record_needs_no_end(server: Server) -> None:
    """What stands after the last newline is a record too."""
    readers = deal(server, "rest", "-d round_robin --frame=line", b"a\nb\nc")

    assert sorted(reader.stdout.data for reader in readers) == [b"a\n", b"b\n", b"c"]


def test_round_robin_without_frames_deals_chunks(server: Server) -> None:
    """Without `--frame` each chunk goes to one reader: together they have every byte once."""
    data = noise(5 * MIB)
    readers = deal(server, "chunks", "-d round_robin", data)

    got = [reader.stdout.data for reader in readers]
    assert sum(len(share) for share in got) == len(data)
    assert all(got)
    assert collections.Counter(b"".join(got)) == collections.Counter(data)


def test_lines_of_several_publishers_do_not_mix(server: Server) -> None:
    """With `--frame line` nobody's line gets into another's, though it comes in between."""
    [reader] = server.subscribe("alice", "sub log")
    slow, quick = (server.ssh("alice", "pub --frame line log", stdin=HELD) for _ in range(2))
    slow.write(b"first\nbeginning ")  # one packet, so the server has both
    reader.wait_stdout(len(b"first\n"))
    quick.write(b"in between\n")
    reader.wait_stdout(len(b"first\nin between\n"))
    slow.write(b"and end\n")
    for writer in (slow, quick):
        writer.close_stdin()

    assert statuses(reader, slow, quick) == [Status.OK] * 3
    assert reader.output == "first\nin between\nbeginning and end\n"


def test_record_beyond_the_bound_ends_its_publisher(server: Server) -> None:
    """A record over 1 MiB cannot be held back whole: status 64 and a line that says so."""
    server.subscribe("alice", "sub -k huge")
    writer = server.run("alice", "pub -d round_robin --frame line huge", stdin=b"x" * (3 * MIB))

    assert writer.wait() == Status.USAGE
    assert re.search(r"(?i)record|frame|line", writer.lines[-1])


def test_topic_of_no_name_is_made_up(server: Server) -> None:
    """`pub` without a topic names one that nobody guesses, and says how to subscribe to it."""
    writer = server.ssh("alice", "pub", stdin=b"for you")
    topic = writer.wait_stderr(r"\bsub\s+(\S*[a-z2-7]{26}\S*)")[1]
    reader = server.ssh("alice", f"sub {topic}")

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"for you"


def test_clean_sessions_say_nothing(server: Server) -> None:
    """With `-c` neither side writes any status text."""
    [reader] = server.subscribe("alice", "sub -c hush")
    writer = server.ssh("alice", "pub -c hush", stdin=b"quiet")

    assert statuses(writer, reader) == [Status.OK] * 2
    assert (reader.text, writer.text) == ("", "")
    assert reader.stdout.data == b"quiet"
