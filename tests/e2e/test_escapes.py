"""What reprograms a terminal: escaped wherever the server speaks, untouched in the stream."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shlex
import socket
import sys
from typing import TYPE_CHECKING

import asyncssh
import pytest

from tests.ssh.serving import FAILURE, RawClient

from . import clients
from .processes import DEADLINE, HELD, Process, wait_until
from .server import ROOT, Server, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import StartServer

pytestmark = pytest.mark.e2e

NASTY = {
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "screen": "\x1b[2J\x1b[H",
    "carriage-return": "safe\rEVIL",
    "new-line": "safe\npipe: EVIL",
    "bidi": "\u202egnp.exe",
    "c1": "\x9b2J\x9d52;c;ZXZpbA==\x9c",
    "title": "\x1b]0;EVIL\x1b\\",
}
"""Text that does something to a terminal, by what it does."""

ALL = " ".join(text.replace("\n", "").replace("\r", "") for text in NASTY.values())
"""All of it in a line, for what is one."""

COMMANDS = (
    "{}",
    "pub {}",
    "sub {}",
    "pipe {}",
    "ls {}",
    "explain {}",
    "grant {} bob",
    "grant x {}",
    "revoke x {}",
    "keys rm {}",
    "help {}",
    "sub x --{}",
    "sub -a {} x",
    "sub -s {} x",
    "pub -t {} x",
    "pub -m {} x",
    "grant x bob --for {}",
    "tokens add --read {}",
    "tokens add --read x --name {}",
    "tokens rm {}",
    "login --for {}",
    "link {}",
    "hooks add {}",
    "hooks add x --kind {}",
    "hooks add x --hold {}",
    "hooks add x --name {}",
    "hooks rm {}",
    "hooks test {}",
)
"""Every way to have the server quote its client."""


def assert_harmless(text: str) -> None:
    """Nothing but what can be printed, in lines."""
    bad = {one for one in text.replace("\r\n", "\n").replace("\n", "") if not one.isprintable()}
    assert not bad, text


def pipe_output(server: Server, *words: str) -> str:
    """What `pipe` prints to an operator."""
    command = [sys.executable, "-m", "pipe", *words, "--data-dir", str(server.data_dir)]
    process = Process(command, environment=clients.bare_environment(), directory=ROOT, forked=True)
    process.wait()
    return process.output + process.text


@pytest.fixture
def server(start_server: StartServer, tmp_path: Path) -> Server:
    """A server with the log that people read, on which alice and bob are known."""
    folder = tmp_path / "authorized"
    folder.mkdir(mode=0o755)
    ca = tmp_path / "ca.pub"
    ca.write_bytes(CA.export_public_key())
    server = start_server(log_format="console", authorized_keys=str(folder), trusted_ca=str(ca))
    server.introduce("alice", "bob")
    return server


CA = asyncssh.generate_private_key("ssh-ed25519")


def test_what_the_server_quotes(server: Server) -> None:
    """Whatever is wrong with a command, the line that says so is one line and harmless."""
    commands = [command.format(shlex.quote(NASTY["clipboard"])) for command in COMMANDS]
    commands += [f"pub {shlex.quote(text)}" for text in NASTY.values()]
    running = [server.ssh("alice", command) for command in commands]
    shown = 0
    for client in running:
        assert client.wait() == Status.USAGE, client
        assert_harmless(client.text + client.output)
        assert len(client.lines) == 1, client
        shown += "\\" in client.text
    assert shown > len(commands) // 2
    assert_harmless(server.log)


def test_comments_of_keys(server: Server) -> None:
    """A comment is kept as it came, and shown as what it is: to its owner and to the operator."""
    public = server.keys.public("alice-evil").split()[:2]
    added = server.ssh("alice", "keys add", stdin=b" ".join([*public, ALL.encode()]))
    assert added.wait() == Status.OK
    for text in (
        added.output,
        server.run("alice", "keys").output,
        server.run("alice", "keys --json").output,
        pipe_output(server, "key", "ls"),
    ):
        assert_harmless(text)
    assert r"\x1b]52;c;ZXZpbA==\x07" in server.run("alice", "keys").output
    assert r"\u202egnp.exe" in pipe_output(server, "key", "ls")


def test_what_commands_tell_of_others(server: Server) -> None:
    """`ls`, `whoami`, `explain`, `grants` and status text show nothing that others could craft."""
    nasty_topics = [
        server.ssh("bob", f"sub -k {shlex.quote('p' + text)}") for text in NASTY.values()
    ]
    for client in nasty_topics:
        assert client.wait() == Status.USAGE
    writer = server.ssh(
        "bob", "pub -a alice room", stdin=HELD, options=("-o", "SetEnv=EVIL=\x1b[2J")
    )
    server.wait_waiting()
    for command in ("ls '**'", "whoami", "explain bob/room", "grants"):
        client = server.ssh("alice", command, options=("-tt", "-o", "SetEnv=TERM=\x1b[2J"))
        assert client.wait() == Status.OK, client
        assert_harmless(client.output)
    writer.kill()
    assert_harmless(writer.text)


@pytest.mark.data_path
def test_the_stream_is_not_touched(server: Server) -> None:
    """What a publisher writes comes out as it went in, terminal or not."""
    data = "\n".join(NASTY.values()).encode() + bytes(range(256))
    [reader] = server.subscribe("alice", "sub art")
    plain = server.ssh("alice", "pub art", stdin=data)
    assert [plain.wait(), reader.wait()] == [Status.OK] * 2
    assert reader.stdout.data == data


# -- before and beside the login ------------------------------------------------------------------


async def log_in(server: Server, user: str, key: object) -> tuple[str, asyncssh.Error | None]:
    """Try it, with a name that `ssh` itself would refuse; what the server says of it."""
    told: list[str] = []

    class Client(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002
            told.append(msg)

    error = None
    try:
        connection, _ = await asyncssh.create_connection(
            Client,
            clients.HOST,
            server.port,
            username=user,
            client_keys=[key],
            known_hosts=None,
            agent_path=None,
            config=None,
        )
        connection.disconnect(asyncssh.DISC_BY_APPLICATION, ALL)
        await connection.wait_closed()
    except asyncssh.Error as caught:
        error = caught
    return "".join(told), error


KEY = asyncssh.generate_private_key("ssh-ed25519")


def user_name(server: Server) -> str:
    """A name to log in under, from a client that does not prepare it (RFC 4013)."""
    client = RawClient(server.port)
    assert client.query("al" + ALL, KEY.public_data) in {None, FAILURE}
    client.close()
    return client.banner


def disconnect_text(server: Server) -> str:
    """The words with which a client that has logged in goes."""
    told, error = asyncio.run(log_in(server, "carol", KEY))
    assert error is None
    return told


def principal(server: Server) -> str:
    """A principal of a good certificate."""
    certified = CA.generate_user_certificate(KEY, ALL, principals=[ALL.replace(",", "")])
    return asyncio.run(log_in(server, "alice", (KEY, certified)))[0]


def client_version(server: Server) -> str:
    """The first line that a client sends, and the words with which it goes."""
    with socket.create_connection((clients.HOST, server.port), DEADLINE) as raw:
        raw.sendall(b"SSH-2.0-" + ALL.encode() + b"\r\n\x00\x00\x00\x0c\x0a" + b"\x1b[2J" * 30)
        answer = b""
        with contextlib.suppress(OSError):
            while piece := raw.recv(65536):
                answer += piece
    return answer.split(b"\r\n")[0].decode()


def no_version(server: Server) -> str:
    """A first line that is none."""
    with socket.create_connection((clients.HOST, server.port), DEADLINE) as raw:
        raw.sendall(ALL.encode() + b"\r\n" + b"\x1b[2J\r\n" * 30)
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                pass
    return ""


def key_file(server: Server) -> str:
    """A line of a key file, and a file's name, which a careless operator took from somebody."""
    folder = server.data_dir.parent / "authorized"
    for candidate in (folder, *server.data_dir.parent.parent.rglob("authorized")):
        if candidate.is_dir():
            (candidate / "dave").write_text(f"{ALL} {ALL}\n")
    return asyncio.run(log_in(server, "dave", KEY))[0]


@pytest.mark.parametrize(
    ("place", "in_log", "in_text"),
    [
        (user_name, False, False),
        (disconnect_text, False, False),
        (principal, True, True),
        (client_version, False, False),
        (no_version, False, False),
        (key_file, True, False),
    ],
)
def test_what_a_stranger_sends(
    server: Server, place: Callable[[Server], str], in_log: bool, in_text: bool
) -> None:
    """Names, versions and goodbyes of anybody are harmless in the log and in what is answered."""
    text = place(server)
    assert_harmless(text)
    if in_text:
        assert r"\x1b]52;c;" in text
    assert server.run("alice", "whoami").wait() == Status.OK
    wait_until(lambda: server.log.count("command=whoami") >= 3, "the log of what came after")
    assert_harmless(server.log)
    if in_log:
        assert r"\x1b" in server.log
    connection = http.client.HTTPConnection(clients.HOST, server.metrics_port, timeout=DEADLINE)
    connection.request("GET", "/metrics")
    scraped = connection.getresponse().read().decode()
    connection.close()
    assert_harmless(scraped)
    assert "52;c" not in scraped
