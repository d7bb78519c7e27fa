"""Services as processes: their ends, forks and children, and the command that reads stdin."""

from __future__ import annotations

import ast
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pipe_log
import pytest

from tests.e2e.processes import HELD
from tests.e2e.server import ROOT

if TYPE_CHECKING:
    from .conftest import StartPython
    from .log_server import LogServer

PACKAGE = Path(pipe_log.__file__).parent

NOBODY = "http://127.0.0.1:9"

BEGIN = """
import logging, multiprocessing, os, sys
import pipe_log
logging.getLogger().addHandler(pipe_log.Handler(sys.argv[1]))
"""

FORK = """
logging.warning("parent before")
if os.fork() == 0:
    logging.warning("child")
    logging.shutdown()
    os._exit(0)
os.wait()
logging.warning("parent after")
"""

CHILD = """
def work(number):
    logging.warning("child %d", number)

logging.warning("parent")
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(work, range(4), chunksize=1)
    pool.close()
    pool.join()
"""


def messages(server: LogServer) -> list[str]:
    """What was taken, sorted."""
    return sorted(line["msg"] for line in server.lines)


def test_last_words_arrive(python: StartPython, log_server: LogServer) -> None:
    """What a program logs in the moment before its end arrives, without a call of its own."""
    program = python("-c", BEGIN + "logging.warning('last words')", log_server.url)

    assert program.wait() == 0
    assert messages(log_server) == ["last words"]
    assert program.text == ""


def test_end_does_not_wait_long_for_nobody(python: StartPython) -> None:
    """Without a server the end takes 2 s more at most, and stderr tells how much was lost."""
    program = python("-c", BEGIN + "logging.warning('last words')", NOBODY)

    assert program.wait() == 0
    assert "could not send all to http://127.0.0.1:9 in time, dropped: 1" in program.text


def test_fork_sends_each_line_once(python: StartPython, log_server: LogServer) -> None:
    """A child has a thread of its own, and none of the lines that its parent had queued."""
    program = python("-W", "ignore::DeprecationWarning", "-c", BEGIN + FORK, log_server.url)

    assert program.wait() == 0, program
    assert messages(log_server) == ["child", "parent after", "parent before"]


def test_children_of_multiprocessing_send_theirs(
    python: StartPython, log_server: LogServer
) -> None:
    """Children that end without `atexit` send what they have."""
    program = python("-W", "ignore::DeprecationWarning", "-c", BEGIN + CHILD, log_server.url)

    assert program.wait() == 0, program
    assert messages(log_server) == [*(f"child {number}" for number in range(4)), "parent"]


def test_command_sends_lines(python: StartPython, log_server: LogServer) -> None:
    """JSON goes as it came, with what it lacks; text becomes a message; the last needs no end."""
    theirs = b'{"time":"2026-01-01T00:00:00Z","big":1e400, "service":"db","user":"bob"}'
    lines = b'  text\r\n\n{"msg":"json","ts":1}\n' + theirs + b"\n[1]\n\xff\nNaN"
    program = python(
        "-m", "pipe_log", log_server.url, "--service", "web", stdin=lines, PIPE_LOG_TOKEN="secret"
    )

    assert program.wait() == 0, program
    said = log_server.lines
    assert [line.get("msg") for line in said] == ["  text", "json", None, "[1]", "\\xff", "NaN"]
    assert [line["service"] for line in said] == ["web", "web", "db", "web", "web", "web"]
    assert ("time" in said[0], "time" in said[1]) == (True, False)
    assert said[0]["level"] == "INFO"
    assert theirs in log_server.requests[0].body
    assert log_server.requests[0].headers["Authorization"] == "Bearer secret"


def test_field_of_the_command_counts(python: StartPython, log_server: LogServer) -> None:
    """Whose lines they are is for the command to say, not for the lines."""
    lines = (
        b'{"msg":"a","user":"bob"}\n{"msg":"b","us\\u0065r":"bob","user":"eve"}\n{"msg":"c"}\nd\n'
    )
    program = python("-m", "pipe_log", log_server.url, "--field", "user=alice", stdin=lines)

    assert program.wait() == 0, program
    assert [line["user"] for line in log_server.lines] == ["alice"] * 4
    assert b"bob" not in log_server.requests[0].body


def test_long_line_of_the_command_is_cut(python: StartPython, log_server: LogServer) -> None:
    """A line of 10 MiB costs 64 KiB, and says that it was cut."""
    lines = b"x" * (10 << 20) + b'\n{"msg":"' + b"y" * 65_500 + b'"}\nshort\n'
    program = python("-m", "pipe_log", log_server.url, "--service", "web", stdin=lines)

    assert program.wait() == 0, program
    first, second, third = log_server.lines
    assert first["cut"] is second["cut"] is True
    assert third["msg"] == "short"
    assert max(map(len, log_server.requests[0].body.splitlines())) < 1 << 16


def test_command_reads_no_faster_than_it_sends(python: StartPython, log_server: LogServer) -> None:
    """A file that is larger than the queue arrives as a whole."""
    lines = b"".join(b'{"number":%d,"pad":"%s"}\n' % (i, b"x" * 1000) for i in range(9000))
    program = python("-m", "pipe_log", log_server.url, stdin=lines)

    assert program.wait() == 0, program
    assert [line["number"] for line in log_server.lines] == list(range(9000))


def test_command_that_is_ended_sends_what_it_has(
    python: StartPython, log_server: LogServer
) -> None:
    """SIGTERM is an end in good order."""
    program = python("-m", "pipe_log", log_server.url, stdin=HELD)
    program.write(b"one\n")
    log_server.wait(1)
    program.send_signal(signal.SIGTERM)

    assert program.wait() == 0, program


def test_command_tells_of_losses(python: StartPython) -> None:
    """The status says whether all lines have arrived."""
    hurry = "import sys, pipe_log.__main__ as command; command.LAST_SECONDS = 0.1; "
    program = python("-c", hurry + f"sys.exit(command.main([{NOBODY!r}]))", stdin=b"hello\n")

    assert program.wait() == 1
    assert "in time, dropped: 1" in program.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "PIPE_LOG_URL"),
        (["pipe.example.org"], "is no URL"),
        ([NOBODY, "--field", "user"], "NAME=VALUE"),
        ([NOBODY, "--token-file", "/nonexistent"], "/nonexistent"),
        ([NOBODY, "--docker", "--docker-socket", "tcp://127.0.0.1:2375"], "socket"),
    ],
)
def test_mistakes_are_told_in_a_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad usage is status 2 and one line that says what is wrong."""
    from pipe_log.__main__ import main

    monkeypatch.delenv("PIPE_LOG_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_needs_the_standard_library_of_python_3_9_alone(path: Path) -> None:
    """No file imports anything else, `pipe` least of all, nor has newer syntax."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])

    assert names <= sys.stdlib_module_names


def test_licence_is_the_projects() -> None:
    """The package, which is shipped alone, brings the licence along."""
    assert (ROOT / "client/LICENSE").read_text() == (ROOT / "LICENSE").read_text()
