"""What ``help resume`` prints, run by two shells with real `ssh`: files over bad connections."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.hostile.proxy import Proxy, Weather

from .payloads import KIB, MIB, noise
from .processes import HELD, statuses, wait_until
from .resuming import Desk
from .server import Server, Status

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import StartServer

pytestmark = pytest.mark.e2e

SHELLS: Final = ("dash", "bash")


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
    assert sends.text.count("subscribe with: ") == 1
    assert "100%" in sends.text
    assert not (receiver.folder / "copy.pipe").exists()


def test_server_that_the_configuration_names(server: Server, tmp_path: Path, shell: str) -> None:
    """With PIPE_ALIAS `ssh` does all that stands below that name."""
    config = tmp_path / "config"
    config.write_text(
        "Host film\n HostName 127.0.0.1\n User alice\n"
        " PermitLocalCommand yes\n LocalCommand touch named\n"
    )
    desk = Desk(server, tmp_path / "a", shell, options=("-F", str(config)))
    desk.write("film", b"hello")
    [reader] = server.subscribe("alice", "sub film")
    sends = desk.start("PIPE_ALIAS=film; pipe_send film film")
    assert statuses(sends, reader) == [Status.OK] * 2
    assert reader.output == "hello"
    assert (desk.folder / "named").exists()


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
