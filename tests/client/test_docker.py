"""What containers write arrives, with the time that Docker gave it."""

from __future__ import annotations

import datetime
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipe_log._frames import Frames, Terminal, just_after

from tests.e2e.processes import wait_until

from .fake_docker import FakeDocker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.processes import Process

    from .conftest import StartPython
    from .log_server import LogServer

STAMP = b"2026-01-02T03:04:05.123456789Z "
MOMENT = STAMP.decode().strip()


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    """A daemon without containers."""
    docker = FakeDocker(tmp_path / "docker.sock")
    yield docker
    docker.stop()


@pytest.fixture
def shipper(docker: FakeDocker, python: StartPython, log_server: LogServer) -> Process:
    """The command, told to follow containers."""
    words = ["--docker", "--docker-socket", f"unix://{docker.path}", "--field", "host=here"]
    return python("-m", "pipe_log", log_server.url, *words)


def followed(docker: FakeDocker, *names: str) -> None:
    """Wait until these containers' logs were asked for."""
    wait_until(lambda: set(names) <= set(docker.log_requests), f"{names} followed")


def test_containers_with_the_label_are_followed(
    docker: FakeDocker, log_server: LogServer, python: StartPython
) -> None:
    """Lines have time and service; labels name the user and another service; JSON stays JSON."""
    plain = docker.run("web")
    labels = {"pipe.logs": "true", "pipe.service": "database", "pipe.user": "alice"}
    labelled = docker.run("db-1", labels=labels)
    other = docker.run("other", labels={"pipe.logs": "false"})
    python("-m", "pipe_log", log_server.url, "--docker", DOCKER_HOST=f"unix://{docker.path}")
    docker.write(other, b"private\n")
    docker.write(plain, b"hello\n")
    docker.write(plain, b"oh\n", "stderr")
    docker.write(labelled, b'{"msg":"json","user":"bob"}\n')

    lines = {line["msg"]: line for line in log_server.wait(3)}
    moment = datetime.datetime.fromisoformat(lines["hello"].pop("time"))
    assert moment.year == 2096
    assert lines["hello"] == {"level": "INFO", "service": "web", "msg": "hello"}
    assert lines["oh"]["stream"] == "stderr"
    assert (lines["json"]["service"], lines["json"]["user"]) == ("database", "alice")


@pytest.mark.usefixtures("shipper")
def test_container_that_starts_later_is_followed(docker: FakeDocker, log_server: LogServer) -> None:
    """All that it writes arrives, also from before the news of its start; it may start again."""
    first = docker.run("first")
    followed(docker, "first")
    later = docker.run("later", tty=True)
    docker.write(later, b"one\r\n")
    docker.run("unlabelled", labels={})
    log_server.wait(1)
    docker.end(later)
    docker.write(first, b"other\n")
    log_server.wait(2)
    docker.write(later, b"two\r\n")
    docker.run("later")
    docker.write(later, b"three")
    docker.end(later)
    log_server.wait(4)

    later_lines = [line["msg"] for line in log_server.lines if line["service"] == "later"]
    assert later_lines == ["one", "two", "three"]
    assert set(docker.log_requests) == {"first", "later"}
    assert {line["host"] for line in log_server.lines} == {"here"}


def test_daemon_that_restarts_costs_no_line(
    docker: FakeDocker, log_server: LogServer, shipper: Process
) -> None:
    """Each container goes on after the last line that was seen, none is sent twice."""
    containers = [docker.run("one"), docker.run("two", tty=True)]
    followed(docker, "one", "two")
    for number in range(3):
        if number:
            docker.stop()
        for container in containers:
            docker.write(container, b"%d\n" % number)
        if number:
            docker.start()
        log_server.wait(2 * number + 2)

    for name in ("one", "two"):
        said = [line["msg"] for line in log_server.lines if line["service"] == name]
        assert said == ["0", "1", "2"]
    assert "no answer from Docker" in shipper.text


@pytest.mark.usefixtures("shipper")
def test_long_line_of_a_container_is_one(docker: FakeDocker, log_server: LogServer) -> None:
    """Docker parts lines at 16 KiB; they arrive whole, or cut where no line may be so long."""
    container = docker.run("web")
    docker.write(container, b"x" * 40_000 + b"\n")
    docker.write(container, b"y" * 200_000 + b"\n")

    whole, cut = log_server.wait(2)
    assert whole["msg"] == "x" * 40_000
    assert set(cut["msg"]) == {"y", "…"}
    assert cut["cut"] is True


def test_no_daemon_is_waited_for(
    tmp_path: Path, python: StartPython, log_server: LogServer
) -> None:
    """A daemon that is not there yet is told of, and used when it comes."""
    path = tmp_path / "docker.sock"
    program = python("-m", "pipe_log", log_server.url, "--docker", "--docker-socket", str(path))
    program.wait_stderr("no answer from Docker")
    docker = FakeDocker(path)
    try:
        docker.write(docker.run("web"), b"hello\n")
        assert log_server.wait(1)[0]["msg"] == "hello"
    finally:
        docker.stop()


MESSAGES = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20), st.booleans()), max_size=20
)


@given(MESSAGES, st.integers(1, 30))
def test_frames_may_arrive_in_any_pieces(
    messages: list[tuple[int, bytes, bool]], size: int
) -> None:
    """Where the network parts the stream makes no difference; the streams do not mix."""
    data = b""
    texts = {1: b"", 2: b""}
    for stream, text, ends in messages:
        payload = text.replace(b"\n", b"") + (b"\n" if ends else b"")
        texts[stream] += payload
        data += struct.pack(">BxxxI", stream, len(STAMP + payload)) + STAMP + payload
    frames = Frames()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    written = [line for piece in pieces for line in frames.feed(piece)] + list(frames.end())

    assert {line.moment for line in written} <= {MOMENT}
    for stream, name in ((1, "stdout"), (2, "stderr")):
        expected = [line.rstrip() for line in texts[stream].split(b"\n")]
        assert [line.text for line in written if line.stream == name] == [*filter(None, expected)]


def test_frame_of_any_size_is_bounded() -> None:
    """A frame that claims four gigabytes costs no more than a line, and nothing of the next."""
    frames = Frames()
    claimed = 200 << 20
    assert list(frames.feed(struct.pack(">BxxxI", 1, claimed))) == []
    piece = bytes(1 << 20)
    for _ in range(claimed // len(piece) - 1):
        assert list(frames.feed(piece)) == []
    [line] = frames.feed(piece[:-1] + b"\n" + struct.pack(">BxxxI", 1, 0))

    assert line.moment is None
    assert len(line.text) <= 1 << 16


def test_terminal_has_no_frames() -> None:
    """With a terminal, lines begin with their time and end as terminals' lines do."""
    terminal = Terminal()
    written = [*terminal.feed(STAMP + b"a\r\n" + STAMP[:9]), *terminal.feed(STAMP[9:] + b"b")]
    written += terminal.end()

    assert [(line.moment, line.text) for line in written] == [(MOMENT, b"a"), (MOMENT, b"b")]


@pytest.mark.parametrize(
    ("moment", "since"),
    [
        ("1970-01-01T00:00:01Z", "1.000000001"),
        ("1970-01-01T00:00:01.999999999Z", "2.000000000"),
        ("1970-01-01T01:00:01.5+01:00", "1.500000001"),
    ],
)
def test_next_moment(moment: str, since: str) -> None:
    """What was seen is not asked for again."""
    assert just_after(moment) == since
