"""What an operator scrapes: exact counts of bytes, and names and labels that can be relied upon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .payloads import MIB, noise
from .processes import HELD, statuses
from .server import Server, Status, missing

if TYPE_CHECKING:
    from .conftest import StartServer

pytestmark = pytest.mark.e2e

NAMES = (
    *("pipe_connections", "pipe_sessions", "pipe_topics"),
    *("pipe_waiting_publishers", "pipe_clogged_subscribers"),
    *("pipe_received_bytes_total", "pipe_delivered_bytes_total"),
    *("pipe_received_chunks_total", "pipe_delivered_chunks_total"),
    *("pipe_dropped_bytes_total", "pipe_publisher_paused_seconds_total", "pipe_send_buffer_bytes"),
    *("pipe_sessions_ended_total", "pipe_session_duration_seconds"),
    *("pipe_logins_total", "pipe_refused_total", "pipe_handshake_seconds"),
    *("pipe_loop_lag_seconds", "pipe_lane_connections", "pipe_build_info"),
    *("process_resident_memory_bytes", "process_cpu_seconds_total", "python_info"),
)
"""Every name that the product promises."""

SMALL_LABELS = {
    *("mode", "outcome", "result", "reason", "lane", "le", "route", "class", "state", "kind"),
    *("worker", "to", "way"),  # where there are several workers
}


def test_every_promised_metric_is_there(server: Server) -> None:
    """A dashboard finds all names from the first scrape on."""
    assert missing(NAMES, server.metrics()) == set()


def test_bytes_are_counted_exactly(start_server: StartServer) -> None:
    """N bytes to M subscribers are N received and N times M delivered, and all sessions done."""
    server = start_server()
    data = noise(3 * MIB + 12_345)
    readers = server.subscribe("alice", "sub counted", count=3)
    writer = server.ssh("alice", "pub counted", stdin=data)
    assert statuses(writer, *readers) == [Status.OK] * 4
    server.wait_empty()

    metrics = server.metrics()
    assert metrics.value("pipe_received_bytes_total", mode="publish") == len(data)
    assert metrics.value("pipe_received_bytes_total") == len(data)
    assert metrics.value("pipe_delivered_bytes_total", mode="subscribe") == 3 * len(data)
    assert metrics.value("pipe_delivered_bytes_total") == 3 * len(data)
    chunks = metrics.value("pipe_received_chunks_total")
    assert chunks >= len(data) / 32768
    assert metrics.value("pipe_delivered_chunks_total") == 3 * chunks
    assert metrics.value("pipe_dropped_bytes_total") == 0
    assert metrics.value("pipe_send_buffer_bytes") == 0
    ended = "pipe_sessions_ended_total"
    assert metrics.value(ended, mode="publish", outcome="done") == 1
    assert metrics.value(ended, mode="subscribe", outcome="done") == 3
    assert metrics.value(ended) == 4
    assert metrics.value("pipe_session_duration_seconds_count") == 4


def test_members_bytes_are_counted_as_theirs(start_server: StartServer) -> None:
    """What goes between `pipe` members is counted under their mode."""
    server = start_server()
    members = [server.ssh("alice", "pipe room", stdin=HELD) for _ in range(3)]
    server.wait_sessions(pipe=3)
    members[0].write(b"x" * 1000)
    for member in members[1:]:
        member.wait_stdout(1000)

    metrics = server.metrics()
    assert metrics.value("pipe_received_bytes_total", mode="pipe") == 1000
    assert metrics.value("pipe_delivered_bytes_total", mode="pipe") == 2000
    assert metrics.value("pipe_delivered_bytes_total") == 2000


def test_gauges_follow_who_is_there(start_server: StartServer) -> None:
    """Connections, sessions, topics and waiting writers are those of the moment."""
    server = start_server()
    server.wait_metric("pipe_connections", 0)
    readers = server.subscribe("alice", "sub -k one", count=2)
    writer = server.ssh("alice", "pub two", stdin=HELD)
    server.wait_waiting()
    server.wait_sessions(publish=1, subscribe=2, pipe=0)
    server.wait_metric("pipe_connections", 3)
    server.wait_metric("pipe_topics", 2)
    writer.kill()
    readers[0].kill()
    server.wait_sessions(publish=0, subscribe=1)
    server.wait_metric("pipe_connections", 1)
    server.wait_metric("pipe_topics", 1)
    server.wait_waiting(0)

    readers[1].kill()
    server.wait_empty()
    server.wait_metric("pipe_connections", 0)


def test_outcomes_are_counted(start_server: StartServer) -> None:
    """Each way to end a session has its own label, the same as in the log."""
    server = start_server()
    assert server.run("alice", "pub -t 100ms x").wait() == Status.TIMEOUT
    [reader] = server.subscribe("alice", "sub x")
    writer = server.ssh("alice", "pub x", stdin=HELD)
    writer.write(b"x")
    reader.wait_stdout(1)
    writer.kill()
    assert reader.wait() == Status.BROKEN
    server.introduce("bob")
    assert server.run("bob", "sub alice/x").wait() == Status.DENIED
    server.wait_empty()

    ended = "pipe_sessions_ended_total"
    metrics = server.metrics()
    assert metrics.value(ended, mode="publish", outcome="timeout") == 1
    assert metrics.value(ended, mode="subscribe", outcome="broken") == 1
    assert metrics.value(ended, outcome="denied") == 1
    for outcome in ("timeout", "broken", "denied"):
        server.wait_lines("session ended", outcome=outcome)


def test_logins_are_counted(start_server: StartServer) -> None:
    """A login that was refused is told from one that was not."""
    server = start_server()
    server.introduce("alice", "bob")
    before = server.metrics().value("pipe_logins_total")
    assert server.ssh("alice", "whoami", key_of="carol").wait() == Status.NO_CONNECTION

    metrics = server.metrics()
    results = {
        sample.labels["result"] for sample in metrics.samples if sample.name == "pipe_logins_total"
    }
    assert before >= 2
    assert len(results) >= 2


def test_labels_hold_nothing_that_users_choose(server: Server) -> None:
    """No name of a user, a topic or a command reaches the metrics: their number stays small."""
    before = len(server.metrics().samples)
    for number in range(5):
        topic = f"topic-of-mine{number}"
        assert server.run("alice", f"pub -b=false {topic}", stdin=b"x").wait() == Status.OK
        assert server.run("alice", f"nonsense{number}").wait() == Status.USAGE
    metrics = server.metrics()

    for word in ("alice", "topic-of-mine", "nonsense", "SHA256"):
        assert word not in metrics.text
    labels = {
        label
        for sample in metrics.samples
        if sample.name.startswith("pipe_") and sample.name != "pipe_build_info"
        for label in sample.labels
    }
    assert labels <= SMALL_LABELS
    assert len(metrics.samples) < before + 100


@pytest.mark.data_path
def test_connections_take_the_lane_that_was_asked_for(server: Server) -> None:
    """The suite tests the data path that it says it tests."""
    server.subscribe("alice", "sub -k lane")

    server.wait_metric("pipe_lane_connections", 1, lane=server.lane)
    assert server.metrics().value("pipe_lane_connections") == 1
