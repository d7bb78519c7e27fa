"""What cannot be understood is refused with one line that names it, over SSH and at the start."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from . import clients
from .processes import HELD, Process, statuses
from .server import ROOT, Server, Status, free_port, serve_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .conftest import StartServer

pytestmark = pytest.mark.e2e

SSH_FAILED = 255
"""What ssh itself exits with when the server refuses its request."""

MISTAKES = [
    ("frobnicate --now x", "frobnicate"),
    ("pub --no-such x", "--no-such"),
    ("sub", "topic"),
    ("pub 'x", "quot"),
    ("pub a%2fb", "a%2fb"),
    ("pub '*'", "*"),
    ("help frobnicate", "frobnicate"),
]
"""One of each kind; tests/language has the rest."""


@pytest.mark.parametrize(
    ("command", "culprit"), MISTAKES, ids=[mistake[0][:30] for mistake in MISTAKES]
)
def test_mistake_is_named_in_one_line(server: Server, command: str, culprit: str) -> None:
    """Status 64, nothing on stdout, one line on stderr with what was wrong."""
    client = server.ssh("alice", command, stdin=HELD)

    assert client.wait() == Status.USAGE
    assert client.output == ""
    assert len(client.lines) == 1
    assert culprit.lower() in client.text.lower()
    assert client.text.endswith("\n")
    assert "\r" not in client.text


def test_control_characters_are_not_echoed(server: Server) -> None:
    """What a terminal would act on is escaped in the line that refuses it."""
    name = "a\x1b[31m\x07\u202e\x9b\rb"
    client = server.ssh("alice", f"pub '{name}'", stdin=HELD)

    assert client.wait() == Status.USAGE
    assert len(client.lines) == 1
    assert name not in client.text
    assert client.text[:-1].isprintable()


@pytest.mark.data_path
def test_command_that_is_not_text_is_refused(server: Server, lane: str) -> None:
    """A name that is no UTF-8 is a bad name like any other; asyncssh itself refuses the request."""
    client = server.ssh("alice", os.fsdecode(b"pub caf\xe9"), stdin=HELD)

    # The command is not repeated where this fails: pytest-xdist cannot carry what is no UTF-8.
    status = client.wait()
    assert status == (Status.USAGE if lane == "fast" else SSH_FAILED)
    lines = len(client.lines)
    assert lines == 1


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(("rsa", "1024"), id="rsa1024"),
        pytest.param(("dsa",), id="dsa"),
    ],
)
def test_weak_key_is_refused(start_server: StartServer, kind: Sequence[str]) -> None:
    """Keys that can be forged do not log in, even under a free name; the next key still may."""
    known = subprocess.run(["ssh", "-Q", "key"], check=True, capture_output=True, text=True)
    has_dsa = "ssh-dss" in known.stdout.split()
    if kind == ("dsa",) and not has_dsa:
        pytest.skip("this ssh knows DSA no more")
    server = start_server()
    accepted = "+ssh-rsa,ssh-dss" if has_dsa else "+ssh-rsa"
    weak = ("RequiredRSASize=1024", f"PubkeyAcceptedAlgorithms={accepted}", "LogLevel=INFO")
    options = [word for option in weak for word in ("-o", option)]
    client = server.ssh("alice", "whoami", kind=kind, options=options)

    assert client.wait() == Status.NO_CONNECTION
    assert "Permission denied" in client.text
    assert server.metrics().value("pipe_sessions_ended_total") == 0
    options += ["-i", str(server.keys.openssh("alice", kind))]
    assert server.ssh("alice", "whoami", options=options).wait() == Status.OK


@pytest.mark.parametrize("kind", [("rsa", "2048"), ("ecdsa", "256")], ids="-".join)
def test_sound_key_is_accepted(server: Server, kind: Sequence[str]) -> None:
    """Other kinds of key than ed25519 log in, RSA with SHA-2."""
    client = server.ssh(f"{kind[0]}-user", "whoami", kind=kind)

    assert client.wait() == Status.OK
    assert f"{kind[0]}-user" in client.output


def test_another_key_does_not_log_in(server: Server) -> None:
    """A name that is taken is its owner's: another key is refused."""
    server.introduce("alice")
    thief = server.ssh("alice", "whoami", key_of="bob")

    assert thief.wait() == Status.NO_CONNECTION
    assert thief.output == ""


@pytest.mark.parametrize("user", ["public", "a.b"])
def test_name_that_nobody_may_have_does_not_log_in(server: Server, user: str) -> None:
    """Reserved names and such as the grammar does not know cannot be claimed."""
    client = server.ssh(user, "whoami")

    assert client.wait() == Status.NO_CONNECTION
    assert client.output == ""


def test_closed_sign_up_lets_nobody_new_in(start_server: StartServer) -> None:
    """With `--signup closed` a key that nobody has entered is refused."""
    client = start_server(signup="closed").ssh("alice", "whoami")

    assert client.wait() == Status.NO_CONNECTION
    assert client.output == ""


REQUESTS_REFUSED = [
    pytest.param(("-s",), "sftp", id="sftp"),
    pytest.param(("-s",), "netconf", id="subsystem"),
    pytest.param(("-W", "127.0.0.1:1"), "", id="direct-tcpip"),
    pytest.param(
        ("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "-N"), "", id="tcpip-forward"
    ),
]


@pytest.mark.parametrize(("options", "command"), REQUESTS_REFUSED)
def test_other_uses_of_ssh_are_refused(
    server: Server, options: Sequence[str], command: str
) -> None:
    """No subsystem and no forwarding: the client is told, and ends with 255."""
    assert server.ssh("alice", command, options=options).wait() == Status.NO_CONNECTION


# The server's own command line


def refused(*words: str) -> Process:
    """Run a server's command that cannot start, and check how it says so."""
    process = Process(words, environment=clients.bare_environment(), directory=ROOT)
    try:
        assert process.wait() not in (Status.OK, -6, -9, -11)
        assert len(process.lines) == 1, process
        assert "Traceback" not in process.text
    finally:
        process.kill()
    return process


def serve(data_dir: Path, **settings: str | int) -> list[str]:
    """A server that would start, were it not for one of `settings`."""
    usual: dict[str, str | int] = {"port": free_port(), "metrics_port": free_port()}
    return serve_command(**{**usual, "data_dir": str(data_dir), **settings})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("no_such", "1"), ("stall_timeout", "soon")],
)
def test_bad_setting_stops_the_start(tmp_path: Path, setting: str, value: str) -> None:
    """One line with the setting's name, and with the value where the setting is known."""
    process = refused(*serve(tmp_path / "data", **{setting: value}))

    assert setting.replace("_", "-") in process.text.replace("_", "-")
    if setting != "no_such":
        assert value in process.text


@pytest.mark.parametrize("which", ["port", "metrics_port"])
def test_port_in_use_stops_the_start(tmp_path: Path, which: str) -> None:
    """A port that somebody else has is named in the one line."""
    with socket.create_server((clients.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        process = refused(*serve(tmp_path / "data", **{which: port}))

    assert str(port) in process.text


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="takes a right away")
def test_port_without_the_right_stops_the_start(tmp_path: Path) -> None:
    """Whoever may not open port 22 is told where the documentation says how."""
    deprived = ("setpriv", "--bounding-set=-net_bind_service", "--")
    process = refused(*deprived, *serve(tmp_path / "data", port=22))

    assert "127.0.0.1:22: Permission denied; ports below 1024" in process.text
    assert "## Port 22" in (ROOT / "docs/operations.md").read_text()


def test_host_that_is_none_stops_the_start(tmp_path: Path) -> None:
    """A name that stands for no address is told as that."""
    process = refused(*serve(tmp_path / "data", host="no-such-host.invalid"))

    assert "no-such-host.invalid" in process.text
    assert "there is no such host" in process.text


def test_data_dir_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    """It is told as that."""
    (tmp_path / "file").write_text("not a folder")
    process = refused(*serve(tmp_path / "file"))

    assert "it is not a folder" in process.text


def test_data_dir_below_a_file_stops_the_start(tmp_path: Path) -> None:
    """A folder that cannot be made is named in the one line."""
    (tmp_path / "file").write_text("not a folder")
    process = refused(*serve(tmp_path / "file" / "data"))

    assert str(tmp_path / "file") in process.text


def test_data_dir_that_others_can_write(start_server: StartServer, tmp_path: Path) -> None:
    """The server starts, and its log warns: whoever can write there can put in another key."""
    folder = tmp_path / "data0"
    folder.mkdir()
    folder.chmod(0o777)
    [line] = start_server().wait_lines("data folder is open to others")

    assert line["path"] == str(folder)
    assert "chmod go-w" in line["reason"]


def test_broken_database_stops_the_start(tmp_path: Path) -> None:
    """A database file that is none is named in the one line, and left as it was."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    database = data_dir / "pipe.db"
    database.write_bytes(b"this is no database " * 500)
    process = refused(*serve(data_dir))

    assert "pipe.db" in process.text
    assert database.read_bytes() == b"this is no database " * 500


def test_broken_host_key_stops_the_start(start_server: StartServer) -> None:
    """A host key that cannot be read is named, and not replaced by a new one in silence."""
    server = start_server()
    assert server.stop() == Status.OK
    [key] = [
        file
        for file in server.data_dir.iterdir()
        if file.is_file() and b"PRIVATE KEY" in file.read_bytes()
    ]
    key.write_bytes(b"garbage\n")
    process = refused(*serve(server.data_dir))

    assert key.name in process.text
    assert key.read_bytes() == b"garbage\n"


def test_unknown_command_of_the_program() -> None:
    """`pipe frobnicate` names what it does not know."""
    assert "frobnicate" in refused(*serve_command()[:-1], "frobnicate").text


def test_refused_sessions_leave_others_alone(server: Server) -> None:
    """A stream that runs while others make mistakes ends well."""
    [reader] = server.subscribe("alice", "sub steady")
    writer = server.ssh("alice", "pub steady", stdin=HELD)
    writer.write(b"one ")
    reader.wait_stdout(4)
    mistakes = [server.ssh("alice", command) for command in ("sub ..", "pub -q x", "nonsense")]
    assert statuses(*mistakes) == [Status.USAGE] * 3
    writer.write(b"two")
    writer.close_stdin()

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"one two"
