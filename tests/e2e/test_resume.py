"""What ``help resume`` prints, run by two shells with real `ssh`: files over bad connections."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.hostile.proxy import Proxy, Weather

from . import clients
from .payloads import GIB, KIB, MIB, noise, write_blob
from .processes import HELD, Process, statuses, wait_until
from .server import Server, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .conftest import StartServer

pytestmark = pytest.mark.e2e

SHELLS: Final = ("dash", "bash")


class Desk:
    """A folder with the functions, an `ssh` that knows its key, and no patience for pauses."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        shell: str,
        port: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        self.server = server
        self.folder = folder
        self._shell = shell
        programs = folder / "bin"
        programs.mkdir(parents=True)
        ssh = shutil.which("ssh")
        assert ssh
        # The first -p counts.
        key = server.keys.openssh("alice")
        command = clients.openssh(port or server.port, key, "alice", "", options)
        words = shlex.join(command[1:-1])
        self._program(programs / "ssh", f'echo $$ > ssh.pid; exec {ssh} {words} "$@"')
        self._program(programs / "sleep", 'exec /bin/sleep "0.0$1"')
        (folder / "resume.sh").write_text(server.run("alice", "help resume").output)
        self._path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def start(self, line: str) -> Process:
        """Run a line in a shell that knows the functions."""
        return self.server.adopt(
            Process(
                [self._shell, "-uc", f". ./resume.sh; {line}"],
                environment={**clients.bare_environment(), "PATH": self._path},
                directory=self.folder,
                new_session=True,
            )
        )

    def write(self, name: str, data: bytes) -> None:
        """Make a file."""
        (self.folder / name).write_bytes(data)

    def read(self, name: str) -> bytes:
        """What is in one."""
        return (self.folder / name).read_bytes()


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Which shell runs them."""
    name: str = request.param
    return name


@pytest.fixture
def desk(server: Server, tmp_path: Path, shell: str) -> Desk:
    """One whose connection is good."""
    return Desk(server, tmp_path, shell)


@pytest.mark.parametrize("side", ["sender", "receiver", "both"])
def test_file_survives_resets(server: Server, tmp_path: Path, shell: str, side: str) -> None:
    """Each connection is reset after some bytes, and the file arrives whole."""
    data = noise(6 * MIB)
    with Proxy(server.port, Weather(reset_after=1500 * KIB)) as proxy:
        sender = Desk(server, tmp_path / "a", shell, proxy.port if side != "receiver" else 0)
        receiver = Desk(server, tmp_path / "b", shell, proxy.port if side != "sender" else 0)
        sender.write("film", data)
        reads = receiver.start("pipe_get film copy")
        server.wait_sessions(subscribe=1)
        sends = sender.start("pipe_send film film")
        assert statuses(sends, reads) == [Status.OK] * 2
    assert receiver.read("copy") == data
    assert "connection lost; next try in 1 s" in reads.text + sends.text
    assert "to 1 subscriber" in sends.text
    assert not (receiver.folder / "copy.pipe").exists()


def test_empty_file(desk: Desk) -> None:
    """Nothing to send is no reason to wait."""
    desk.write("none", b"")
    reads = desk.start("pipe_get film copy")
    desk.server.wait_sessions(subscribe=1)
    sends = desk.start("pipe_send none film")
    assert statuses(sends, reads) == [Status.OK] * 2
    assert desk.read("copy") == b""


def test_call_goes_on_where_the_last_one_was(desk: Desk) -> None:
    """A call of pipe_get after one that was killed, shell and all."""
    server, data = desk.server, noise(MIB)
    reads = desk.start("pipe_get film copy")
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub --keep 8MiB film", stdin=HELD)
    writer.write(data[: MIB // 2])
    reads.wait_stderr(r"KiB")  # once it shows bytes
    os.killpg(reads.pid, 9)
    reads.wait()
    writer.write(data[MIB // 2 :])
    again = desk.start("pipe_get film copy")
    again.wait_stderr(r"begins with byte \d+ of stream")
    writer.close_stdin()
    assert statuses(writer, again) == [Status.OK] * 2
    assert desk.read("copy") == data


def test_file_that_is_something_else(desk: Desk) -> None:
    """64, rather than to add a stream to a file that is no part of it."""
    desk.write("copy", b"mine")
    reads = desk.start("pipe_get film copy")
    assert reads.wait() == Status.USAGE
    assert "no copy.pipe says of which stream" in reads.text
    assert desk.read("copy") == b"mine"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("pipe_get bob/film copy", Status.DENIED),
        ("pipe_send resume.sh bob/film", Status.DENIED),
        ("pipe_get '' copy", Status.USAGE),
        ("pipe_send resume.sh ''", Status.USAGE),
        ("PIPE_KEEP=1GiB pipe_send resume.sh film", Status.TIMEOUT),
        ("PIPE_HOLD=25h pipe_get film copy", Status.USAGE),
        ("pipe_get film", Status.USAGE),
        ("pipe_send nothing film", Status.USAGE),
    ],
)
def test_refusal_ends_it(desk: Desk, line: str, status: Status) -> None:
    """What cannot heal is not tried again."""
    refused = desk.start(line)
    assert refused.wait() == status
    assert "next try" not in refused.text


def test_server_that_is_not_there(server: Server, tmp_path: Path, shell: str) -> None:
    """The first connection must come about: a wrong address or key is no lost connection."""
    desk = Desk(server, tmp_path, shell, port=1)
    assert desk.start("pipe_get film copy").wait() == Status.NO_CONNECTION


def test_tries_are_counted(start_server: StartServer, tmp_path: Path) -> None:
    """A server that does not come back is given up."""
    server = start_server()
    desk = Desk(server, tmp_path, "dash")
    reads = desk.start("PIPE_TRIES=3 pipe_get film copy")
    server.wait_sessions(subscribe=1)
    server.process.kill()
    assert reads.wait() == Status.NO_CONNECTION
    assert reads.text.count("next try in") == 3


@pytest.mark.parametrize("orderly", [True, False])
def test_restart_is_told(start_server: StartServer, tmp_path: Path, orderly: bool) -> None:
    """Nothing is left of a stream after a restart: both sides end with 75, and say why."""
    patient = "PIPE_TRIES=100000"  # however long a start takes: pauses are short here
    server = start_server(drain="0s")
    with Proxy(server.port, Weather(bytes_per_second=MIB)) as proxy:
        sender = Desk(server, tmp_path / "a", "dash", proxy.port)
        receiver = Desk(server, tmp_path / "b", "dash")
        sender.write("film", noise(64 * MIB))
        reads = receiver.start(f"{patient}; pipe_get film copy")
        server.wait_sessions(subscribe=1)
        sends = sender.start(f"{patient}; pipe_send film film")
        wait_until(lambda: receiver.read("copy"), "bytes have come")
        if orderly:
            server.terminate()
            server.process.wait()
        else:
            server.process.kill()
        server.restart()
        assert statuses(sends, reads) == [Status.TIMEOUT] * 2
    assert "or the server was restarted" in sends.text
    assert "or the server was restarted" in reads.text


class CutDesk(NamedTuple):
    """One side of the show: what runs there, and what is between it and the server."""

    desk: Desk
    proxy: Proxy
    process: Process

    def cut(self, number: int) -> None:
        """Cut its connection in one of three ways, and return once it has noticed."""
        cut = (self.proxy.reset, self.proxy.freeze, self.kill_ssh)[number % 3]

        def is_lost() -> bool:
            cut()  # again, if it was between two connections
            return self.losses > number

        wait_until(is_lost, f"cut {number} in {self.desk.folder}")

    @property
    def losses(self) -> int:
        """How often it has lost its connection so far."""
        return self.process.text.count("connection lost; next try")

    def kill_ssh(self) -> None:
        """Kill the `ssh` that runs last."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self.desk.read("ssh.pid"))
            if Path(f"/proc/{pid}/comm").read_text() == "ssh\n":
                os.kill(pid, signal.SIGKILL)


def _has(path: Path, size: int) -> bool:
    return path.stat().st_size >= size


@pytest.mark.slow
@pytest.mark.parametrize(("size", "cuts"), [(2 * GIB, 20)])
def test_large_file_survives_cuts_on_either_side(
    start_server: StartServer, tmp_path: Path, size: int, cuts: int
) -> None:
    """Both sides lose their connection again and again: reset, cut without a word, `ssh` killed."""
    server = start_server(stall_timeout="2s")
    blob = write_blob(tmp_path / "film", size)
    with contextlib.ExitStack() as stack:
        sides = []
        for name, line in (("b", "pipe_get film copy"), ("a", f"pipe_send {blob.path} film")):
            proxy = stack.enter_context(Proxy(server.port, Weather()))
            alive = ("-o", "ServerAliveInterval=1")  # to notice what has no end
            desk = Desk(server, tmp_path / name, "dash", proxy.port, alive)
            sides.append(CutDesk(desk, proxy, desk.start(line)))
            server.wait_sessions(subscribe=1)
        reader, writer = sides
        copy = reader.desk.folder / "copy"
        for number in range(cuts):
            due = size * (number + 1) // (cuts + 1)
            wait_until(partial(_has, copy, due), f"{due} bytes")
            writer.cut(number)
            reader.cut(number)
        assert statuses(writer.process, reader.process) == [Status.OK] * 2
    assert min(writer.losses, reader.losses) >= cuts
    with copy.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == blob.sha256
