"""User logs with the real clients: `ssh HOST logs`, curl, `pub --frame line`, and syslog-ng."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

from .payloads import KIB
from .processes import HELD, Process, wait_until
from .server import Server, Status, free_port
from .test_stdout_gone import into_head
from .web import is_listening, token, url, which

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import StartServer

pytestmark = pytest.mark.e2e

CURL_CUT = 18
"""curl's status where a response broke off."""

DRAIN = "ops/log-drain"
SHIPPING = f"--logs --write {DRAIN}"


@pytest.fixture
def drained(start_server: StartServer) -> Server:
    """A server that drains a topic, to which all of these people are known."""
    server = start_server(log_drain=DRAIN)
    server.introduce("ops", "alice", "bob")
    return server


def line(text: str, user: str = "alice", **fields: object) -> bytes:
    """A line as services write it."""
    values = {"level": "INFO", "msg": text, "service": "web", "user": user, **fields}
    return json.dumps(values).encode() + b"\n"


def read(client: Process) -> list[dict[str, Any]]:
    """The lines that a client has printed, without those of the server itself."""
    lines = [json.loads(one) for one in client.stdout.data.splitlines()]
    return [one for one in lines if one.get("service") != "pipe"]


def wait_for(client: Process, *texts: str) -> None:
    """Return once a client has printed just these."""
    wait_until(lambda: len(read(client)) >= len(texts), f"{texts}")
    assert [one["msg"] for one in read(client)] == list(texts)


def past(server: Server, user: str, flags: str = "") -> list[str]:
    """What a user's lines of late say."""
    client = server.run(user, f"logs -f=false {flags}")
    assert client.wait() == Status.OK, client
    return [one["msg"] for one in read(client)]


def wait_past(server: Server, user: str, *texts: str) -> None:
    """Return once a user's last lines say this."""
    wait_until(lambda: past(server, user)[-len(texts) :] == list(texts), f"{user}: {texts}")


def post(server: Server, body: bytes, *options: str, secret: str = "") -> Process:
    """Ship a batch with the real curl."""
    words = ["curl", "-q", "-sS", "-o", "/dev/stderr", "-w", "%{http_code}", "--data-binary", "@-"]
    secret = secret or token(server, "ops", SHIPPING)
    words += ["-H", f"Authorization: Bearer {secret}", *options, url(server, "/api/logs")]
    client = server.adopt(Process(words, stdin=body))
    client.wait()
    return client


def get(server: Server, path: str, *options: str, secret: str) -> Process:
    """Read with the real curl."""
    words = ["curl", "-q", "-sSf", "-H", f"Authorization: Bearer {secret}", *options]
    return server.adopt(Process([*words, url(server, path)]))


def test_each_user_gets_the_own_lines(drained: Server) -> None:
    """What a service writes with `pub --frame line` comes to its user, and to nobody else."""
    alice, bob = drained.ssh("alice", "logs"), drained.ssh("bob", "logs")
    warned = drained.ssh("alice", "logs --level warn --service web --grep disk")
    service = drained.ssh("ops", f"pub -c --frame line {DRAIN}", stdin=HELD)
    service.write(line("one") + line("his", "bob") + line("disk full", level="ERROR")[:20])
    wait_for(alice, "one")
    wait_for(bob, "his")
    service.write(line("disk full", level="ERROR")[20:])
    wait_for(alice, "one", "disk full")
    wait_for(warned, "disk full")
    assert past(drained, "bob", "-n 5") == ["his"]
    service.close_stdin()
    assert service.wait() == Status.OK
    assert drained.metrics().value("pipe_log_lines_total", result="user") == 3


def test_admins_see_all(drained: Server) -> None:
    """Who is no admin may not ask for others' lines."""
    for flags in ("--all", "--user bob"):
        client = drained.run("alice", f"logs {flags}")
        assert client.wait() == Status.DENIED
        assert "only admins" in client.text


def test_the_server_tells_of_sessions(server: Server) -> None:
    """Without any service, `logs` tells of the user's streams, with their topics."""
    server.run("alice", "pub -b=false told", b"x")

    def told() -> list[dict[str, Any]]:
        client = server.run("alice", "logs -f=false -n 200 --grep alice/told")
        return [json.loads(one) for one in client.stdout.data.splitlines()]

    [ended] = wait_until(told, "the line")
    assert ended["msg"] == "session ended"
    assert (ended["service"], ended["user"], ended["topic"]) == ("pipe", "alice", "alice/told")
    assert (ended["mode"], ended["outcome"], ended["received"]) == ("publish", "done", 1)


def test_refused_logins_are_told(server: Server) -> None:
    """Who tries another key in somebody's name is told of, if the user was here before."""
    server.run("alice", "pub -b=false told", b"x")
    wait_until(lambda: "session ended" in server.run("alice", "logs -f=false").output, "a line")
    mallory = server.ssh("alice", "whoami", key_of="mallory")
    assert mallory.wait() == Status.NO_CONNECTION
    wait_until(
        lambda: "login refused" in server.run("alice", "logs -f=false").output, "the warning"
    )


@pytest.mark.parametrize("options", [(), ("-tt",)])
def test_control_c(server: Server, options: tuple[str, ...]) -> None:
    """A follower ends with Ctrl-C, whether its terminal is ours or not."""
    client = server.ssh("alice", "logs", stdin=HELD, options=options)
    server.run("alice", "pub -b=false told", b"x")
    client.wait_stdout(1)
    if options:
        client.write(b"\x03")
        assert client.wait() == Status.INTERRUPTED
        assert b"\r\n" in client.stdout.data
    else:
        client.interrupt()
        assert client.wait() != Status.OK


def test_before_a_head(server: Server) -> None:
    """A follower whose stdout is gone ends."""
    reader = into_head(server, "logs -n 1", stdin=HELD)

    def ended() -> bool:
        server.run("alice", "pub -b=false told", b"x")
        return not reader.running

    wait_until(ended, "the reader ends")
    assert reader.wait() == Status.BROKEN_PIPE
    assert json.loads(reader.output)["msg"] == "session ended"


def test_the_server_stops(start_server: StartServer) -> None:
    """A follower does not hold up a stop, and is told of it."""
    server = start_server(drain="10m")
    client = server.ssh("alice", "logs")
    curl = get(server, "/api/logs", "-N", secret=token(server, "alice", "--logs"))
    server.run("alice", "pub -b=false told", b"x")
    for one in (client, curl):
        one.wait_stdout(1)
    server.terminate()
    assert client.wait() == Status.SHUTDOWN
    assert "the server is shutting down" in client.text
    assert curl.wait() == CURL_CUT
    assert server.process.wait() == Status.OK


def test_curl_ships(drained: Server) -> None:
    """A batch by curl, packed or not, comes to its users; bad lines are counted, rights checked."""
    secret = token(drained, "ops", SHIPPING)
    ndjson = ("-H", "Content-Type: application/x-ndjson")
    got = post(drained, line("one") + b"junk\n" + line("two"), *ndjson, "-D", "-", secret=secret)
    assert "HTTP/1.1 204" in got.output
    assert "Pipe-Rejected: 1" in got.output
    packed = gzip.compress(line("three"))
    got = post(drained, packed, *ndjson, "-H", "Content-Encoding: gzip", secret=secret)
    assert got.output == "204"
    wait_past(drained, "alice", "one", "two", "three")
    assert post(drained, line("x"), secret=secret).output == "415"
    assert post(drained, line("x"), *ndjson, secret=token(drained, "alice")).output == "403"
    assert past(drained, "alice") == ["one", "two", "three"]


def test_a_token_for_logs_reads_the_own_lines(drained: Server) -> None:
    """A token with ``--logs`` reads what its user would; another one does not."""
    post(drained, line("one"), "-H", "Content-Type: application/x-ndjson")
    wait_past(drained, "alice", "one")
    for secret, status in ((token(drained, "alice", "--logs"), 0), (token(drained, "alice"), 22)):
        client = get(drained, "/api/logs?follow=false&grep=one", secret=secret)
        assert client.wait() == status
        assert [one["msg"] for one in read(client)] == ["one"] * (not status)


SYSLOG = """
@version: {version}
options {{ keep-hostname(yes); time-reopen(1); }};
source s_in {{ network(ip("127.0.0.1") port({port}) transport("tcp") flags(no-parse)); }};
destination d_pipe {{
  http(
    url("{url}")
    method("POST")
    headers("Content-Type: application/x-ndjson", "Authorization: Bearer {secret}")
    body("$(format-json --scope none level=$LEVEL msg=$MESSAGE service=web user=alice)\\n")
    batch-lines(100) batch-timeout(200)
    workers(1)
  );
}};
log {{ source(s_in); destination(d_pipe); flags(flow-control); }};
"""


@contextlib.contextmanager
def syslog_ng(folder: Path, server: Server, secret: str) -> Iterator[int]:
    """A syslog-ng that ships here, and the port where it takes lines."""
    program, port = which("syslog-ng"), free_port()
    version = Process([program, "--version"])
    version.wait()
    [number] = re.findall(r"^Config version: (\S+)$", version.output, re.MULTILINE)
    path = folder / "syslog-ng.conf"
    path.write_text(
        SYSLOG.format(version=number, port=port, url=url(server, "/api/logs"), secret=secret)
    )
    files = [f"--{name}={folder / name}" for name in ("persist-file", "pidfile", "control")]
    process = Process([program, "-F", "-e", "--no-caps", f"--cfgfile={path}", *files])

    def listens() -> bool:
        assert process.running, process
        return is_listening(port)

    try:
        wait_until(listens, "syslog-ng")
        yield port
    finally:
        process.kill()


def test_syslog_ng_keeps_what_the_server_cannot_take(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Syslog-ng ships batches, keeps what it is told to send again (503), and loses nothing.

    So it does while the server is away.
    """
    if not shutil.which("syslog-ng", path="/usr/sbin:/usr/bin:/sbin:/bin"):
        pytest.skip("there is no syslog-ng")
    server = start_server(log_drain=DRAIN)
    server.introduce("ops", "alice")
    secret = token(server, "ops", SHIPPING)
    with syslog_ng(tmp_path, server, secret) as port:
        sender = socket.create_connection(("127.0.0.1", port))
        sender.sendall(b"".join(b"line %d\n" % number for number in range(150)))
        wait_past(server, "alice", "line 149")
        server.stop()
        sender.sendall(b"".join(b"line %d\n" % number for number in range(150, 300)))
        server.restart()
        wait_past(server, "alice", "line 299")
        assert past(server, "alice", "-n 150") == [f"line {n}" for n in range(150, 300)]
        # One who reads nothing holds up the topic, until no batch is taken any more.
        reader = server.ssh("ops", f"sub -k {DRAIN}", reading=False, keep=False)
        server.wait_sessions(subscribe=1)
        server.ssh("ops", f"pub -c --frame line {DRAIN}", stdin=line("x" * 1000, "ops") * 16 * KIB)
        server.wait_metric("pipe_clogged_subscribers", 1)
        sender.sendall(b"".join(b"line %d\n" % number for number in range(300, 20_000)))
        figures = server.metrics
        wait_until(lambda: figures().value("pipe_web_requests_total", **{"class": "5xx"}), "a 503")
        reader.stdout.start_reading()
        server.wait_metric("pipe_log_lines_total", 20_000 - 150 + 16 * KIB, result="user")
        sender.close()
