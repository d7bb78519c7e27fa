"""Commands that speak of the whole service, whichever of its workers a client is on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any

import pytest

from .clients import HOST
from .conftest import SharedServer
from .payloads import MIB
from .processes import DEADLINE, HELD, Process, statuses, wait_until
from .receiver import receiving
from .server import HOPPING, MOVING, Server, Status
from .test_workers import workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .clients import KeyRing

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def lane() -> str:
    """A client on asyncssh's data path is never moved."""
    return "fast"


@pytest.fixture(scope="module", params=[HOPPING, MOVING], ids=["hop", "move"])
def shared_server(
    request: pytest.FixtureRequest,
    lane: str,
    keys: KeyRing,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SharedServer]:
    """One of three workers; see `tests.e2e.scattered` for who and what is where."""
    folder = tmp_path_factory.mktemp("server")
    shared = SharedServer(
        folder,
        keys,
        lane,
        request.param,
        workers=3,
        trusted_sources="127.0.0.0/8",
        webhook_networks="127.0.0.0/8",
    )
    yield shared
    assert shared.stop() == Status.OK


def at(worker: int) -> tuple[str, ...]:
    """The options of a client that is given to a worker."""
    return "-o", f"BindAddress=127.0.1.{worker}"


def ask(server: Server, worker: int, command: str, user: str = "alice") -> Process:
    """Run a command on a worker to its end."""
    client = server.ssh(user, command, options=at(worker))
    client.wait()
    return client


def rows_of(client: Process) -> list[dict[str, Any]]:
    """What it printed, a JSON object in each line."""
    assert client.wait() == Status.OK
    return [json.loads(line) for line in client.output.splitlines()]


def test_ls_shows_topics_of_all_workers(server: Server) -> None:
    """Each topic is listed once, with its own figures, in the order of one worker's list."""
    for number in (3, 1, 2):
        server.ssh("alice", f"sub at{number}", options=at(number))
    server.ssh("alice", "sub at2", options=at(3))
    server.ssh("bob", "sub public/at1", options=at(1))
    server.wait_sessions(subscribe=5)
    rows = rows_of(ask(server, 2, "ls --json"))
    assert [(row["topic"], row["subscribers"]) for row in rows] == [
        ("alice/at1", 1),
        ("alice/at2", 2),
        ("alice/at3", 1),
        ("public/at1", 1),
    ]
    assert [row["topic"] for row in rows_of(ask(server, 3, "ls --json 'public/*'"))] == [
        "public/at1"
    ]
    table = ask(server, 1, "ls")
    assert [line.split()[0] for line in table.output.splitlines()[1:]] == [
        "at1",
        "at2",
        "at3",
        "public/at1",
    ]
    assert not table.text


def test_worker_that_does_not_answer_is_named(server: Server) -> None:
    """The others' topics are listed, with whom to ask again."""
    for number in (1, 2):
        server.ssh("alice", f"sub at{number}", options=at(number))
    server.wait_sessions(subscribe=2)
    pid = workers_of(server)[2]
    os.kill(pid, signal.SIGSTOP)
    try:
        client = server.ssh("alice", "ls --json", options=at(1))
        rows = rows_of(client)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [row.get("topic") for row in rows] == ["alice/at1", None]
    assert rows[-1] == {"missing": ["2"]}
    assert "no answer from worker 2" in client.text


def test_pattern_reads_from_all_workers(server: Server) -> None:
    """A reader on a pattern gets what is published in any worker, each publisher's in order."""
    sub = server.ssh("alice", "sub 'at*'", options=at(1))
    server.wait_sessions(subscribe=1)
    data = {number: f"<{number}>".encode() * 200_000 for number in (1, 2, 3)}
    pubs = [
        server.ssh("alice", f"pub at{number}", stdin=text, options=at(1 + number % 3))
        for number, text in data.items()
    ]
    assert statuses(*pubs) == [Status.OK] * 3
    assert all("to 1 subscriber" in pub.text for pub in pubs)
    assert sub.stdout.wait(lambda out: out.size >= 1_800_000)
    for number in data:
        assert sub.output.count(str(number)) == 200_000
    sub.interrupt()
    sub.wait()
    ends = wait_until(
        lambda: [
            line
            for line in server.lines("session ended", mode="subscribe")
            if line["received"] == 0 and line["delivered"]
        ],
        "the end to be logged",
    )
    assert [line["delivered"] for line in ends] == [1_800_000]


def test_slow_reader_on_a_pattern_holds_publishers_elsewhere(server: Server) -> None:
    """Backpressure reaches a publisher in another worker, and lets go of it again."""
    sub = server.ssh("alice", "sub 'at*'", options=at(1), reading=False)
    server.wait_sessions(subscribe=1)
    data = b"x" * (24 * MIB)
    pub = server.ssh("alice", "pub at2", stdin=data, options=at(3))
    server.wait_metric("pipe_clogged_subscribers", 1)
    assert pub.running
    sub.stdout.start_reading()
    assert pub.wait() == Status.OK
    assert sub.stdout.wait(lambda out: out.size >= len(data))


def test_pattern_reader_outlives_a_worker(server: Server) -> None:
    """It is told whose streams broke, and reads on from the others and from who comes after."""
    sub = server.ssh("alice", "sub 'at*'", options=at(1))
    server.wait_sessions(subscribe=1)
    os.kill(workers_of(server)[2], signal.SIGKILL)
    sub.wait_stderr(r"worker 2 is gone: what was published there broke off\r?\n")
    first = server.ssh("alice", "pub at3", stdin=b"three", options=at(3))
    assert first.wait() == Status.OK
    server.wait_metric("pipe_up", 3)
    second = server.ssh("alice", "pub at2", stdin=b"two", options=at(3))
    assert second.wait() == Status.OK
    assert sub.stdout.wait(lambda out: out.data == b"threetwo")


def test_event_reaches_a_topic_elsewhere(server: Server) -> None:
    """Who has the hooks publishes where the topic is at home, and counts its readers."""
    made = ask(server, 1, "hooks add at2")
    number = made.output.split("/hook/")[1].split()[0]
    sub = server.ssh("alice", "sub at2", options=at(3))
    server.wait_sessions(subscribe=1)
    tried = ask(server, 3, f"hooks test {number}")
    assert "1 reader got it" in tried.output, tried
    assert sub.wait() == Status.OK
    assert json.loads(sub.output)["event"] == "test"
    assert "nobody reads it now" in ask(server, 2, f"hooks test {number}").output


def test_watched_topic_is_at_home_where_it_is_watched(server: Server) -> None:
    """A monitor sees what is published from any worker, and goes on when its worker dies."""
    assert ask(server, 2, "monitor add at3-job --every 1h --on end").wait() == Status.OK

    def state() -> str:
        rows = rows_of(ask(server, 3, "monitors --json"))
        return str(rows[0]["state"])

    ended = server.ssh("alice", "pub -b=false at3-job", stdin=b"done", options=at(3))
    assert ended.wait() == Status.OK
    wait_until(lambda: state() == "up", "the monitor to be up")
    os.kill(workers_of(server)[1], signal.SIGKILL)
    server.wait_metric("pipe_up", 3)
    failed = server.ssh("alice", "pub -b=false -x 3 at3-job", stdin=b"no", options=at(3))
    failed.wait()
    wait_until(lambda: state() == "down", "the monitor to be down")


def test_watched_at_once_though_it_is_in_use_elsewhere(server: Server) -> None:
    """A webhook and a monitor get what comes on a topic that was open in another worker before."""
    server.introduce("erin")
    reader = server.ssh("erin", "sub -k at2", options=at(2))
    writer = server.ssh("erin", "pub at2", stdin=HELD, options=at(3))
    writer.write(b"one\n")
    reader.wait_stdout(4)
    with receiving() as receiver:
        for line in (f"webhooks add at2 {receiver.url} --frame line", "monitor add at2 --every 1h"):
            assert ask(server, 3, line, "erin").wait() == Status.OK
        numbers = itertools.count()

        def has_come() -> bool:
            writer.write(b"%d\n" % next(numbers))
            return bool(receiver.posts)

        wait_until(has_come, "it to be watched there")
        writer.write(b"last\n")
        writer.close_stdin()
        assert writer.wait() == Status.OK
        wait_until(lambda: receiver.posts[-1].body == b"last", "the last line")
        sent = [b"%d" % number for number in range(next(numbers))]
        *bodies, _ = [post.body for post in receiver.posts]
        assert bodies == sent[-len(bodies) :]
        [monitor] = rows_of(ask(server, 1, "monitors --json", "erin"))
        assert monitor["state"] == "up"
        reader.interrupt()
        server.wait_sessions(subscribe=0)
        again = server.ssh("erin", "pub -b=false at2", stdin=b"again", options=at(2))
        assert again.wait() == Status.OK
        wait_until(lambda: receiver.posts[-1].body == b"again", "what came after it had closed")


def test_log_lines_of_all_workers(server: Server) -> None:
    """`logs` shows what the server says of a user, wherever the session was."""
    for number in (1, 2, 3):
        ended = server.ssh("dora", f"pub -b=false at{number}-log", options=at(number))
        assert ended.wait() == Status.OK

    def topics() -> list[str]:
        rows = rows_of(ask(server, 2, "logs -f=false", "dora"))
        return sorted(row["topic"] for row in rows if row["msg"] == "session ended")

    wait_until(lambda: len(topics()) == 3, "all lines")
    assert topics() == [f"dora/at{number}-log" for number in (1, 2, 3)]


def test_right_ends_everywhere(server: Server) -> None:
    """A grant that is revoked on one worker ends readers in the others, those on patterns too."""
    server.introduce("bob")
    assert ask(server, 1, "grant at2 bob --read").wait() == Status.OK
    reader = server.ssh("bob", "sub alice/at2", options=at(3))
    wide = server.ssh("bob", "sub 'alice/*'", options=at(3))
    writer = server.ssh("alice", "pub -m 2 at2", stdin=HELD, options=at(1))
    writer.write(b"one")
    for one in (reader, wide):
        assert one.stdout.wait(lambda out: out.data == b"one"), one
    assert ask(server, 1, "revoke at2 bob").wait() == Status.OK
    assert reader.wait() == Status.DENIED
    assert "its owner revoked it" in reader.text
    own = server.ssh("alice", "sub at2", options=at(2))
    writer.write(b"two")
    assert own.stdout.wait(lambda out: out.data == b"two")
    assert wide.output == "one"
    writer.close_stdin()
    assert writer.wait() == Status.OK


def test_list_of_a_session_ends_with_it(server: Server) -> None:
    """Who is on a session's list may join from any worker, as long as that session lives."""
    server.introduce("bob")
    holder = server.ssh("alice", "pub -a bob at2", stdin=HELD, options=at(1))
    server.wait_waiting()
    guest = server.ssh("bob", "pipe alice/at2", stdin=HELD, options=at(3))
    server.wait_sessions(pipe=1)
    holder.kill()
    assert guest.wait() == Status.DENIED


def test_removed_key_ends_sessions_everywhere(server: Server) -> None:
    """A key that is removed on one worker ends its sessions in the others."""
    server.introduce("carol")
    spare = server.keys.public("carol-spare")
    assert server.ssh("carol", "keys add", stdin=spare, options=at(1)).wait() == Status.OK
    reader = server.ssh("carol", "sub at2", key_of="carol-spare", options=at(3))
    wide = server.ssh("carol", "sub 'at*'", key_of="carol-spare", options=at(2))
    server.wait_sessions(subscribe=2)
    fingerprint = server.keys.fingerprint("carol-spare")
    assert ask(server, 1, f"keys rm {fingerprint}", "carol").wait() == Status.OK
    assert (reader.wait(), wide.wait()) == (Status.DENIED, Status.DENIED)


def test_token_made_in_any_worker_reads_over_http(server: Server) -> None:
    """HTTP is in one worker: it knows tokens and topics of all, and lists them."""
    made = ask(server, 3, "tokens add --read '**' --write '**'")
    headers = {"Authorization": f"Bearer {made.output.strip()}"}
    writer = server.ssh("alice", "pub at2", stdin=b"over HTTP", options=at(3))
    server.wait_waiting()
    listed = json.loads(get(server, "/api/topics", headers))
    assert [row["topic"] for row in listed] == ["alice/at2"]
    assert get(server, "/topic/at2", headers) == b"over HTTP"
    assert writer.wait() == Status.OK


def test_http_tells_of_a_stream_elsewhere_as_of_one_here(server: Server, tmp_path: Path) -> None:
    """Its name, receipt and readers are in headers and JSON, wherever its topic is at home."""
    auth = bearer(server)
    head = tmp_path / "head"
    address = f"http://{HOST}:{server.web_port}/topic/at2"
    words = ["curl", "-q", "-sSf", "-H", f"Authorization: {auth}", "-D", str(head), address]
    reader = server.adopt(Process(words))
    server.wait_sessions(subscribe=1)
    seen, _ = ask_http(server, "HEAD", "/topic/at2", {"Authorization": auth})
    assert (seen.getheader("Pipe-Publishers"), seen.getheader("Pipe-Subscribers")) == ("0", "1")
    headers = {
        "Authorization": auth,
        "Accept": "application/json",
        "Content-Disposition": 'attachment; filename="x.csv"',
    }
    _, told = ask_http(server, "PUT", "/topic/at2", headers, b"some")
    assert json.loads(told) == {"bytes": 4, "subscribers": 1, "left_early": 0}
    assert reader.wait() == Status.OK
    assert reader.output == "some"
    assert 'filename="x.csv"' in head.read_text()
    assert "Pipe-Length: 4" in head.read_text()
    gone, _ = ask_http(server, "HEAD", "/topic/at2", {"Authorization": auth})
    assert gone.status == 404


def test_ranges_of_a_stream_elsewhere(server: Server) -> None:
    """206 with what there is from a byte on, 416 with which bytes there are."""
    auth = bearer(server)
    writer = server.ssh("alice", "pub -b=false --keep 1MiB at2", stdin=HELD, options=at(3))
    writer.write(b"0123456789")
    late = server.ssh("alice", "sub --last 1MiB at2", options=at(2))
    late.wait_stdout(10)
    [row] = rows_of(ask(server, 1, "ls --json at2"))
    stream = row["kept"]["stream"]
    headers = {"Authorization": auth, "Pipe-Stream": stream}
    refused, _ = ask_http(server, "GET", "/topic/at2", {**headers, "Range": "bytes=11-"})
    assert (refused.status, refused.getheader("Pipe-Kept")) == (416, "0-10")
    connection = HTTPConnection(HOST, server.web_port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("GET", "/topic/at2", headers={**headers, "Range": "bytes=4-"})
        part = connection.getresponse()
        assert part.status == 206
        assert (part.getheader("Pipe-Stream"), part.getheader("Pipe-Offset")) == (stream, "4")
        writer.close_stdin()
        assert part.read() == b"456789"
    assert statuses(writer, late) == [Status.OK] * 2


def bearer(server: Server) -> str:
    """What lets alice in by HTTP."""
    made = ask(server, 3, "tokens add --read '**' --write '**'")
    return f"Bearer {made.output.strip()}"


def ask_http(
    server: Server, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[HTTPResponse, bytes]:
    """Ask for something that is answered at once, and return the answer and its body."""
    connection = HTTPConnection(HOST, server.web_port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()


def get(server: Server, path: str, headers: dict[str, str]) -> bytes:
    """Get something over HTTP, to its end."""
    connection = HTTPConnection(HOST, server.web_port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().read()
