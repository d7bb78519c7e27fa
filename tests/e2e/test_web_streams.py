"""curl, httpx, websockets and ssh on one server: bytes, ends, and what each is told."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest
from websockets.sync.client import connect

from . import clients
from .payloads import GIB, KIB, MIB, noise, sha256, write_blob
from .processes import HELD, SMALL_PIPE, Pace, Process, statuses
from .server import PIPE, WORKERS, Server, Status, free_port
from .web import Curl, token, url

if TYPE_CHECKING:
    from .conftest import StartServer
    from .payloads import Blob

pytestmark = pytest.mark.e2e

REFUSED: Final = 22
"""What curl -f exits with when the status is 400 or above."""

CUT: Final = {18, 56}
"""And what any curl exits with when a response broke off: a part is missing, or a reset."""


def test_late_reader_gets_everything(server: Server, blob: Blob) -> None:
    """A publisher waits, with its bytes still on its side, for a reader that comes late."""
    curl = Curl(server)
    writer = curl("/topic/build", "-T", blob.path)
    server.wait_waiting()
    reader = curl("/topic/build", "-f", keep=False)
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.sha256 == blob.sha256
    assert writer.output == f"sent {blob.size} bytes to 1 subscriber\n"


@pytest.mark.parametrize("size", [64 * MIB, pytest.param(GIB, marks=pytest.mark.slow)])
def test_large_stream_and_little_memory(
    start_server: StartServer, tmp_path: Path, size: int, big: bool
) -> None:
    """A large upload arrives whole, and the server's memory stays below its start and 64 MiB."""
    if size >= GIB and not big:
        pytest.skip("PIPE_TEST_BIG=1 allows gigabytes")
    server = start_server()
    curl = Curl(server)
    source = write_blob(tmp_path / "noise", size)
    before = server.rss_bytes()
    reader = curl("/topic/backup", "-f", keep=False)
    server.wait_sessions(subscribe=1)
    writer = curl("/topic/backup", "-T", source.path)
    assert statuses(writer, reader, timeout=900) == [Status.OK] * 2
    assert reader.stdout.sha256 == source.sha256
    assert server.peak_rss_bytes() < before + 64 * MIB


def test_standard_input_forms_and_data(server: Server, tmp_path: Path) -> None:
    """Curl's other ways to send arrive as they are: -T -, --data-binary, -d and -F."""
    curl = Curl(server)
    data = noise(3 * MIB)
    path = tmp_path / "räport.csv"
    path.write_bytes(data)
    for options, stdin, sent in (
        (("-T", "-"), data, data),
        (("--data-binary", f"@{path}"), None, data),
        (("-d", "hello"), None, b"hello"),
        (("-F", f"file=@{path}"), None, data),
    ):
        reader = curl("/topic/build", "-f", "-D", tmp_path / "head", keep=True)
        server.wait_sessions(subscribe=1)
        writer = curl("/topic/build", *options, stdin=stdin)
        assert statuses(writer, reader) == [Status.OK] * 2
        assert sha256(reader.stdout.data) == sha256(sent), options
    assert "filename*=UTF-8''r%C3%A4port.csv" in (tmp_path / "head").read_text()


def test_refusals(server: Server, tmp_path: Path) -> None:
    """What is refused is refused before a byte is sent, with a status and the words of SSH."""
    curl = Curl(server)
    server.introduce("bob")
    big = write_blob(tmp_path / "noise", 5 * MIB).path
    sent = "%{http_code} %{size_upload}\n"
    denied = curl("/topic/bob/build", "-T", big, "-w", sent, "-f", "-o", "/dev/null")
    assert denied.wait() == REFUSED
    assert denied.output == "403 0\n"
    late = curl("/topic/build?timeout=100ms", "-T", big, "-w", sent)
    assert late.wait() == Status.OK
    assert late.output == "gave up: 1 subscriber still missing after 100ms\n504 0\n"
    for headers in ({}, {"Authorization": "Bearer ptk_nonsense"}):
        assert httpx.get(url(server, "/topic/build"), headers=headers).status_code == 401


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_writer_that_is_killed(server: Server, version: str) -> None:
    """A reader whose publisher was killed knows it by curl's own status, with HTTP/1.0 too."""
    curl = Curl(server)
    reader = curl("/topic/build", version, "-N")  # or it keeps the last few KiB to itself
    server.wait_sessions(subscribe=1)
    writer = curl("/topic/build", "-T", "-", stdin=HELD)
    writer.write(noise(MIB))
    reader.wait_stdout(MIB)
    writer.kill()
    assert reader.wait() in CUT
    assert reader.stdout.size == MIB


def test_writer_that_is_killed_while_it_waits_is_no_ghost(server: Server, tmp_path: Path) -> None:
    """Not a byte of a publisher that died reaches the reader that comes after it."""
    curl = Curl(server)
    big = write_blob(tmp_path / "noise", 32 * MIB).path
    ghost = curl("/topic/build", "-T", big)
    server.wait_waiting()
    ghost.kill()
    reader = curl("/topic/build?timeout=3s", "-f")
    assert reader.wait() == REFUSED
    assert reader.stdout.size == 0


def test_reader_that_is_killed_leaves_no_ghost(server: Server) -> None:
    """A reader that is killed is gone, so that the next publisher waits for another."""
    curl = Curl(server)
    reader = curl("/topic/build")
    server.wait_sessions(subscribe=1)
    reader.kill()
    server.wait_sessions(subscribe=0)
    writer = curl("/topic/build?timeout=100ms", "-f", "-d", "hello")
    assert writer.wait() == REFUSED


def test_exit_status_of_the_publisher(server: Server) -> None:
    """``exit=N`` is no success for a reader over HTTP, and N for one over SSH."""
    curl = Curl(server)
    [ssh] = server.subscribe("alice", "sub build")
    reader = curl("/topic/build", "-f")
    server.wait_sessions(subscribe=2)
    writer = curl("/topic/build?exit=3", "-d", "hello")
    assert writer.wait() == Status.OK
    assert ssh.wait() == 3
    assert reader.wait() in CUT
    assert reader.output == ssh.output == "hello"


@pytest.mark.data_path
def test_ssh_and_http_beside_each_other(server: Server, blob: Blob) -> None:
    """Fast and slow readers of each kind get the same bytes from a publisher of each kind."""
    curl = Curl(server)
    slow = Pace(piece=SMALL_PIPE, pause=0.0005)
    for over_http in (True, False):
        readers = [
            server.ssh("alice", "sub build", keep=False),
            server.ssh("alice", "sub build", keep=False, pace=slow),
            curl("/topic/build", "-f", keep=False),
            curl("/topic/build", "-f", keep=False, pace=slow),
        ]
        server.wait_sessions(subscribe=4)
        if over_http:
            writer = curl("/topic/build", "-T", blob.path)
        else:
            writer = server.ssh("alice", "pub build", stdin=blob.path)
        assert statuses(writer, *readers) == [Status.OK] * 5
        assert {reader.stdout.sha256 for reader in readers} == {blob.sha256}
        receipt = writer.output if over_http else writer.lines[-1]
        assert f"sent {blob.size} bytes to 4 subscribers" in receipt


def test_another_http_client(server: Server) -> None:
    """Httpx publishes and reads, chunk by chunk, on connections that it keeps."""
    secret = token(server)
    with httpx.Client(headers={"Authorization": f"Bearer {secret}"}, timeout=60) as client:
        for _ in range(2):
            with client.stream("GET", url(server, "/topic/build?persist=true")) as reader:
                assert reader.status_code == 200
                pieces = (noise(100_000, seed) for seed in range(20))
                sent = client.put(url(server, "/topic/build"), content=pieces)
                assert sent.text == "sent 2000000 bytes to 1 subscriber\n"
                got = b""
                for piece in reader.iter_raw():
                    got += piece
                    if len(got) == 2_000_000:
                        break
            assert got == b"".join(noise(100_000, seed) for seed in range(20))
            server.wait_sessions(subscribe=0)


def test_another_websocket_client(server: Server) -> None:
    """Websockets talks to ssh, both ways."""
    address = url(server, "/pipe/room").replace("http", "ws")
    headers = {"Authorization": f"Bearer {token(server)}"}
    with connect(address, additional_headers=headers) as socket:
        ssh = server.ssh("alice", "pipe room", stdin=HELD)
        server.wait_sessions(pipe=2)
        ssh.write(b"hello")
        assert socket.recv(timeout=60) == b"hello"
        socket.send(b"and you")
        ssh.wait_stdout(7)
        assert ssh.output == "and you"


def test_links(server: Server) -> None:
    """Whoever has a link reads or writes its topic, as often as it says, and nothing else."""
    look = server.run("alice", "link build -n 1").output.strip()
    page = httpx.get(look)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    reader = server.adopt(Process(["curl", "-q", "-sSf", f"{look}/raw"]))
    server.wait_sessions(subscribe=1)
    server.run("alice", "pub build", stdin=b"for you")
    assert reader.wait() == Status.OK
    assert reader.output == "for you"
    assert httpx.get(f"{look}/raw").status_code == 410
    assert httpx.get(look).status_code == 410
    assert httpx.get(look[:-1] + ("a" if look[-1] != "a" else "b")).status_code == 404

    give = server.run("alice", "link --write build -n 2").output.strip()
    assert httpx.get(f"{give}/raw").status_code == 403
    [ssh] = server.subscribe("alice", "sub build")
    assert httpx.put(f"{give}/raw", content=b"for her").status_code == 200
    assert ssh.wait() == Status.OK
    assert ssh.output == "for her"
    for query in ("topic=other", "public=1", "access=bob"):
        assert httpx.put(f"{give}/raw?{query}", content=b"x").status_code == 403


def test_token_that_is_removed_ends_its_streams(server: Server) -> None:
    """A token that is taken back ends what it let in, within a second."""
    secret = token(server)
    with httpx.stream(
        "GET",
        url(server, "/topic/build?persist=1"),
        headers={"Authorization": f"Bearer {secret}"},
        timeout=60,
    ) as reader:
        number = secret.split("_")[1]
        assert server.run("alice", f"tokens rm {number}").wait() == Status.OK
        with pytest.raises(httpx.RemoteProtocolError):
            reader.read()
    lines = server.wait_lines("session ended", mode="subscribe", outcome="denied")
    assert lines[0]["front"] == "http"


def test_what_an_operator_sees(server: Server) -> None:
    """Sessions over HTTP are in ``ls``, in the log and in the metrics, and secrets nowhere."""
    curl = Curl(server)
    reader = curl("/topic/build", "-A", "my-agent")
    server.wait_sessions(subscribe=1)
    assert server.metrics().value("pipe_web_streams") == 1
    listed = json.loads(server.run("alice", "ls --json").output)
    assert (listed["topic"], listed["subscribers"]) == ("alice/build", 1)
    explained = server.run("alice", "explain build").output
    assert "alice" in explained
    reader.kill()
    [line] = server.wait_lines("session ended", client="my-agent")
    assert line["outcome"] == "left"
    assert server.metrics().value("pipe_web_streams") == 0
    assert server.metrics().value("pipe_web_requests_total", route="topic") >= 0
    assert "ptk_" not in server.log


def test_stop(start_server: StartServer) -> None:
    """A server that stops lets moving streams finish, and tells those that wait."""
    server = start_server()
    curl = Curl(server)
    waiting = curl("/topic/other", "-w", "%{http_code}")
    reader = curl("/topic/build", "-f", "-N")
    server.wait_sessions(subscribe=2)
    writer = curl("/topic/build", "-T", ".", stdin=HELD)  # "-" would wait for all of it
    writer.write(b"begin ")
    reader.wait_stdout(6)
    server.terminate()
    assert waiting.wait() == Status.OK
    assert waiting.output == "the server is shutting down\n503"
    writer.write(b"end")
    writer.close_stdin()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.output == "begin end"
    assert server.process.wait() == Status.OK


def test_many_waiting_readers_are_cheap(start_server: StartServer) -> None:
    """A thousand GETs that wait take little memory each, and all get the answer."""
    server = start_server()
    secret = token(server)
    head = f"GET /topic/build HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n"
    sockets = []
    try:
        before = 0
        for number in range(1100):
            if number % 50 == 0:  # no more may be on their way to a login at once
                server.wait_sessions(subscribe=number)
            if number == 100:
                before = server.rss_bytes()
            one = socket.create_connection((clients.HOST, server.web_port))
            one.sendall(head.encode())
            sockets.append(one)
        server.wait_sessions(subscribe=1100)
        each = (server.rss_bytes() - before) / 1000
        assert each < (20 if WORKERS == 1 else 32) * KIB  # it is 16, and in two workers 25
        # No program is started now: the descriptors of its pipes would be too high for select(2).
        auth = {"Authorization": f"Bearer {secret}"}
        sent = httpx.put(url(server, "/topic/build"), content=b"all", headers=auth, timeout=60)
        assert sent.text == "sent 3 bytes to 1100 subscribers\n"
        for one in sockets:
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                got += one.recv(4096)
            assert b"\r\n3\r\nall\r\n" in got
    finally:
        for one in sockets:
            one.close()


def test_no_web(start_server: StartServer) -> None:
    """Without a port nothing of HTTP is loaded, and with one its library is."""
    for port, loaded in ((0, False), (free_port(), True)):
        server = start_server(program=PIPE, web_port=port)
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in server.pids]
        assert any("/aiohttp/" in text for text in maps) is loaded
