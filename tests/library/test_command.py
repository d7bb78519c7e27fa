"""`pipe pub` and the others as processes, against a server in this one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shlex
import signal
import sys
import termios
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import pytest

import pipe
from pipe.client.terminal import Patience
from tests.library.places import Place, credentials, soon
from tests.ssh.serving import HOST, serving
from tests.web.served import serving as serving_http

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipe.service import Service

MIB = 1 << 20

PIPE = (sys.executable, "-m", "pipe")


class Shell:
    """Somebody's shell, with a configuration of ssh."""

    def __init__(self, home: Path, server: str, **variables: str) -> None:
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PIPE_") and name != "SSH_AUTH_SOCK"
        }
        self.environment |= {"HOME": str(home), "PIPE_SERVER": server, **variables}

    async def start(
        self, words: str, stdin: int = asyncio.subprocess.PIPE, stdout: str = ""
    ) -> Process:
        """Start ``pipe`` with these words; ``stdout`` is a file to write to."""
        with contextlib.ExitStack() as files:
            return await asyncio.create_subprocess_exec(
                *PIPE,
                *shlex.split(words),
                stdin=stdin,
                stdout=files.enter_context(open(stdout, "wb"))  # noqa: ASYNC230, PTH123
                if stdout
                else asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self.environment,
            )

    async def run(self, words: str, stdin: bytes = b"") -> Result:
        """Run it to its end."""
        process = await self.start(words)
        return await self.end(process, stdin)

    @staticmethod
    async def end(process: Process, stdin: bytes | None = None) -> Result:
        """Wait for its end."""
        out, err = await soon(process.communicate(stdin))
        return Result(process.returncode, out or b"", err.decode())


class Result(NamedTuple):
    """What a command has left."""

    status: int | None
    out: bytes
    err: str


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A server of SSH."""
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
def shell(service: Service, tmp_path: Path) -> Shell:
    """Alice's, who has put the server into her configuration."""
    _, options = credentials(service, tmp_path)
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(
        f"Host box\n HostName {HOST}\n Port {service.port}\n User alice\n"
        f" IdentityFile {options['identity']}\n UserKnownHostsFile {options['known_hosts']}\n"
    )
    return Shell(home, "box")


def place_of(service: Service) -> Place:
    """The server's topics."""
    return Place(None, service.router, [])  # type: ignore[arg-type]


async def test_stream(service: Service, shell: Shell) -> None:
    """Bytes come through, the receipt is told, and both end with 0."""
    data = Random(4).randbytes(5 * MIB + 1)
    reader = await shell.start("sub build")
    await place_of(service).wait_members("build", 1)
    writer, read = await asyncio.gather(shell.run("pub build", data), shell.end(reader))
    assert hashlib.sha256(read.out).digest() == hashlib.sha256(data).digest()
    assert (read.status, read.err) == (0, "")
    assert writer.status == 0
    assert f"pipe: sent {len(data)} bytes to 1 subscriber\n" in writer.err


async def test_commands(shell: Shell) -> None:
    """Other commands answer on stdout; what is wrong is one line, told by the server."""
    who = await shell.run("whoami")
    assert (who.status, who.err) == (0, "")
    assert b"alice" in who.out
    denied = await shell.run("sub bob/secret")
    assert (denied.status, denied.out) == (77, b"")
    assert denied.err.startswith("pipe: access denied")
    assert denied.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("sub", "sub needs a TOPIC; 'pipe sub -h' says more"),
        ("sub -z x", "unknown flag '-z'"),
        ("sup x", "unknown command 'sup'; did you mean 'sub'?"),
        ("pub -m 0 x", "flag -m has the value '0': it takes a whole number from 1 to 10000"),
        ("sub x --server", "flag --server needs a value"),
        ("sub x --server ftp://y", "the address 'ftp://y' is of no known form"),
    ],
)
async def test_typos(tmp_path: Path, words: str, line: str) -> None:
    """What cannot be understood is one line before anything is connected to."""
    failed = await Shell(tmp_path, "nowhere.invalid").run(words)
    assert failed.status == 64
    assert failed.err.startswith(f"pipe: {line}")
    assert failed.err.count("\n") == 1


@pytest.mark.parametrize("words", ["sub x", "help resume"])
async def test_no_server(tmp_path: Path, words: str) -> None:
    """Without a server the line says how to name one."""
    failed = await Shell(tmp_path, "").run(words)
    assert failed.status == 64
    assert failed.err.startswith("pipe: say which server: --server ssh://USER@HOST:PORT")


async def test_no_connection(tmp_path: Path) -> None:
    """A server that is not there ends it with 255, as ssh does."""
    failed = await Shell(tmp_path, f"ssh://alice@{HOST}:1").run("sub x")
    assert failed.status == 255
    assert failed.err.count("\n") == 1


async def test_statuses(service: Service, shell: Shell) -> None:
    """Statuses and lines are those of ssh."""
    late = await shell.run("pub -t 50ms build", b"x")
    assert late.status == 75
    assert late.err.endswith("pipe: gave up: 1 subscriber still missing after 50ms\n")
    reader = await shell.start("sub build")
    await place_of(service).wait_members("build", 1)
    assert (await shell.run("pub -x 3 build", b"x")).status == 0
    assert await shell.end(reader) == (3, b"x", "")


async def test_interrupted(service: Service, shell: Shell) -> None:
    """Ctrl-C ends it at once with 130, and what it was sending is broken."""
    place = place_of(service)
    reader = await shell.start("sub build")
    await place.wait_members("build", 1)
    writer = await shell.start("pub -c build")
    assert writer.stdin
    writer.stdin.write(b"half")
    await place.until(lambda: service.router.statistics().received_chunks)
    writer.send_signal(signal.SIGINT)
    assert await soon(writer.wait()) == 130
    broken = await shell.end(reader)
    assert (broken.status, broken.out) == (74, b"half")
    assert broken.err == "pipe: the stream broke: a publisher vanished before its end of file\n"
    assert writer.stderr
    assert await writer.stderr.read() == b""


async def test_stdout_is_gone(service: Service, shell: Shell) -> None:
    """A reader whose stdout is gone has left, with 141 and without a word."""
    place = place_of(service)
    read_end, write_end = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *PIPE,
        *("sub", "build"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=write_end,
        stderr=asyncio.subprocess.PIPE,
        env=shell.environment,
    )
    os.close(write_end)
    await place.wait_members("build", 1)
    os.close(read_end)
    await shell.run("pub --block=false build", b"x")  # it may have noticed before this comes
    assert await soon(process.wait()) == 141
    assert process.stderr
    assert await process.stderr.read() == b""


async def test_pipe(service: Service, shell: Shell) -> None:
    """`pipe pipe` talks both ways, and reads on when its stdin has ended."""
    place = place_of(service)
    one, two = await shell.start("pipe chat"), await shell.start("pipe chat")
    await place.wait_members("chat", 2)
    assert one.stdin
    assert two.stdout
    one.stdin.write(b"hello\n")
    assert await soon(two.stdout.readline()) == b"hello\n"
    results = await asyncio.gather(shell.end(one, b""), shell.end(two, b"bye\n"))
    assert [result.status for result in results] == [0, 0]
    assert results[0].out == b"bye\n"


async def test_chat(service: Service, shell: Shell) -> None:
    """`pipe chat` says each line of its stdin, and leaves at its end."""
    place = place_of(service)
    one = await shell.start("chat tea")
    await place.wait_members("tea", 1)
    two = await shell.run("chat tea", b"hello\nwhere is everybody?\n")
    assert two.status == 0
    heard = await shell.end(one, b"")
    assert (heard.status, heard.out) == (0, b"alice: hello\nalice: where is everybody?\n")


@pytest.mark.parametrize(
    ("words", "keys", "shown", "status"),
    [
        ("chat tea", b"/quit\r", b"here is alice", 0),
        ("chat tea", b"\x03", b"here is alice", 130),
        ("top", b"\x03", b"no topics", 130),
        ("stat -f tea", b"\x03", b"alice/tea", 130),
    ],
)
async def test_terminal(shell: Shell, words: str, keys: bytes, shown: bytes, status: int) -> None:
    """What the server draws is drawn in our terminal, which is as it was afterwards."""
    person, program = os.openpty()
    before = termios.tcgetattr(program)
    process = await asyncio.create_subprocess_exec(
        *PIPE,
        *shlex.split(words),
        stdin=program,
        stdout=program,
        stderr=program,
        env=shell.environment | {"TERM": "xterm"},
    )
    try:
        screen = b""
        while shown not in screen:
            screen += await soon(asyncio.to_thread(os.read, person, MIB))
        os.write(person, keys)
        assert await soon(process.wait()) == status
        assert termios.tcgetattr(program) == before
    finally:
        os.close(person)
        os.close(program)


def test_patience() -> None:
    """Who presses Ctrl-C three times without an answer leaves; each answer begins anew."""
    patience = Patience()
    assert not patience.pressed(b"x\x03\x03")
    patience.answered()
    assert not patience.pressed(b"\x03")
    assert not patience.pressed(b"y")
    assert patience.pressed(b"\x03\x03")


async def test_help(tmp_path: Path) -> None:
    """Help needs no server, and says how to name one."""
    shown = await Shell(tmp_path, "").run("pub --help")
    assert shown.status == 0
    assert b"usage: pipe pub [FLAGS] [TOPIC]" in shown.out
    assert b"--server URL" in shown.out
    assert b"--reconnect" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


async def test_what_only_a_server_knows(service: Service, shell: Shell) -> None:
    """The functions that resume have its address, and its version is its own."""
    shown = await shell.run("help resume")
    assert (shown.status, shown.err) == (0, "")
    assert b"\npipe_get() (" in shown.out
    assert b"-p %d" % service.port in shown.out
    assert await shell.run("help --server box resume") == shown
    version = await shell.run("version --server box")
    assert version == (0, f"pipe {pipe.__version__}\n".encode(), "")


async def test_by_http(tmp_path: Path) -> None:
    """The same by HTTP, with a token."""
    async with serving_http() as served:
        shell = Shell(tmp_path, served.url, PIPE_TOKEN="token-alice")
        reader = await shell.start("sub build")
        await served.wait_members(1)
        writer = await shell.run("pub build", b"bytes")
        assert writer.status == 0
        assert writer.err.endswith("pipe: sent 5 bytes to 1 subscriber\n")
        assert await shell.end(reader) == (0, b"bytes", "")
        assert (await shell.run("ls --json")).out == b""
        refused = await shell.run("whoami")
        assert refused.status == 64
        assert refused.err.startswith("pipe: over HTTP there are pub, sub, pipe and ls --json")
        denied = await shell.run("sub bob/secret")
        assert (denied.status, denied.err.startswith("pipe: access denied")) == (77, True)


async def test_reconnect(service: Service, shell: Shell) -> None:
    """A reader that was cut off comes back, and says so."""
    place = place_of(service)
    reader = await shell.start("sub -k --reconnect build")
    await place.wait_members("build", 1)
    for session in list(service.sessions):
        with contextlib.suppress(AttributeError):
            session._front._connection.abort()  # type: ignore[attr-defined]  # noqa: SLF001
    await place.wait_members("build", 0)
    await place.wait_members("build", 1)
    assert (await shell.run("pub build", b"after")).status == 0
    assert reader.stdout
    assert await soon(reader.stdout.readexactly(5)) == b"after"
    reader.send_signal(signal.SIGINT)
    ended = await shell.end(reader)
    assert ended.status == 130
    assert "trying again in" in ended.err
    assert "nothing is kept of alice/build: its publisher would need --keep" in ended.err


async def test_disk_is_full(service: Service, shell: Shell) -> None:
    """A stdout that takes nothing is one line and 74; the writer learns of it."""
    full = await shell.start("sub build", stdout="/dev/full")
    await place_of(service).wait_members("build", 1)
    writer = await shell.start("pub build")
    assert writer.stdin
    writer.stdin.write(b"bytes")
    ended = await shell.end(full)
    assert (ended.status, ended.err) == (
        74,
        "pipe: cannot write to stdout: No space left on device\n",
    )
    late = await shell.start("sub build")  # without it, the writer would wait for a reader
    await place_of(service).wait_members("build", 2)
    told = await shell.end(writer, b"")
    assert "no subscriber left after 5 bytes; waiting for another" in told.err
    assert told.err.endswith("sent 5 bytes to 2 subscribers, 1 of them left early\n")
    assert (await shell.end(late)).status == 0


async def test_stdin_that_cannot_be_read(service: Service, shell: Shell) -> None:
    """It is no end of file: the stream breaks, and its reader knows."""
    reader = await shell.start("sub build")
    await place_of(service).wait_members("build", 1)
    closed = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f"exec {shlex.join(PIPE)} pub build <&-",
        stderr=asyncio.subprocess.PIPE,
        env=shell.environment,
    )
    _, err = await soon(closed.communicate())
    assert closed.returncode == 74
    assert err.decode().endswith("pipe: cannot read stdin: Bad file descriptor\n")
    broken = await shell.end(reader)
    assert (broken.status, broken.out) == (74, b"")
