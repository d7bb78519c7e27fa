"""Which cipher and which data path a client gets, and what happens where the lane cannot be had."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import asyncssh
import pytest
from asyncssh.connection import SSHConnection
from asyncssh.constants import MSG_KEXINIT
from asyncssh.packet import Boolean, Byte, NameList, SSHPacket, UInt32

from pipe.errors import StartError
from pipe.settings import Lane
from pipe.ssh.lane import check_internals, internals
from tests.e2e import clients
from tests.e2e.payloads import MIB, noise, sha256
from tests.e2e.processes import DEADLINE, HELD, Process, statuses
from tests.e2e.server import PIPE, ROOT, Server, Status, free_port
from tests.ssh.wire import Wire

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from tests.e2e.clients import KeyRing
    from tests.e2e.conftest import StartServer

GCM = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]
OTHERS = ["chacha20-poly1305@openssh.com", "aes256-ctr"]

MISSING = "_send_disconnect"
"""A name that the lane needs, and asyncssh itself only where something goes wrong."""


@pytest.fixture
def lane() -> Lane:
    """The data path that is the default."""
    return Lane.FAST


def cipher(client: Process) -> str:
    """The cipher of what the server sends, as `ssh -v` tells it."""
    found = client.wait_stderr(r"kex: server->client cipher: (\S+)")
    return found[1]


def lanes(server: Server) -> dict[str, float]:
    """How many connections are on each path."""
    scrape = server.metrics()
    return {lane: scrape.value("pipe_lane_connections", lane=lane) for lane in Lane}


@pytest.mark.e2e
def test_stock_ssh_gets_aes_gcm_unasked(start_server: StartServer) -> None:
    """OpenSSH, which likes chacha20-poly1305 better, is offered nothing but AES-GCM."""
    server = start_server()
    reader = server.ssh("alice", "sub any", options=("-o", "LogLevel=DEBUG1"))
    server.wait_sessions(subscribe=1)
    assert cipher(reader) == "aes128-gcm@openssh.com"
    assert "kex: client->server cipher: aes128-gcm@openssh.com" in reader.text
    assert lanes(server) == {"fast": 1, "asyncssh": 0}


@pytest.mark.e2e
@pytest.mark.parametrize("name", OTHERS)
def test_other_ciphers_work_on_asyncsshs_path(start_server: StartServer, name: str) -> None:
    """A client that insists on another cipher gets it; the metrics tell which path that is."""
    server = start_server()
    content = noise(3 * MIB)
    options = ("-c", name, "-o", "LogLevel=DEBUG1")
    reader = server.ssh("alice", "sub any", options=options)
    server.wait_sessions(subscribe=1)
    assert cipher(reader) == name
    assert lanes(server) == {"fast": 0, "asyncssh": 1}
    writer = server.ssh("alice", "pub any", stdin=HELD)
    server.wait_sessions(publish=1)
    assert lanes(server) == {"fast": 1, "asyncssh": 1}
    writer.write(content)
    writer.close_stdin()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert sha256(reader.stdout.data) == sha256(content)
    server.wait_metric("pipe_lane_connections", 0)


@pytest.mark.e2e
def test_dropbear_works(start_server: StartServer, keys: KeyRing) -> None:
    """A client without AES-GCM is served as well, both ways."""
    server = start_server()
    content = noise(3 * MIB)

    def start(command: str, stdin: bytes | None = None) -> Process:
        words = clients.dropbear(server.port, keys.dropbear("alice"), "alice", command)
        environment = clients.bare_environment()
        return server.adopt(Process(words, stdin=stdin, environment=environment))

    reader = start("sub any")
    server.wait_sessions(subscribe=1)
    assert sum(lanes(server).values()) == 1
    writer = start("pub any", content)
    assert statuses(writer, reader) == [Status.OK] * 2
    assert sha256(reader.stdout.data) == sha256(content)


@pytest.mark.e2e
def test_plain_lane_steers_nothing(keys: KeyRing, tmp_path: Path) -> None:
    """With `--lane asyncssh` a client gets the cipher that it likes best, on asyncssh's path."""
    server = Server(tmp_path / "data", keys, Lane.ASYNCSSH)
    try:
        order = ",".join((OTHERS[0], GCM[0]))
        talkative = ("-o", "LogLevel=DEBUG1")
        usual = server.ssh("alice", "sub any", options=("-c", order, *talkative))
        other = server.ssh("alice", "sub any", options=("-c", GCM[0], *talkative))
        server.wait_sessions(subscribe=2)
        assert (cipher(usual), cipher(other)) == (OTHERS[0], GCM[0])
        assert lanes(server) == {"fast": 0, "asyncssh": 2}
    finally:
        server.stop()


# -- by hand --------------------------------------------------------------------------------------


class Offer(NamedTuple):
    """The ciphers of a KEXINIT."""

    to_server: list[str]
    to_client: list[str]


class Caller:
    """A client that has got as far as the version exchange."""

    def __init__(self, port: int, version: bytes = b"SSH-2.0-by_hand\r\n") -> None:
        self._socket = socket.create_connection((clients.HOST, port), timeout=DEADLINE)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(version)
        self.version = self._stream.readline()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        self._socket.close()

    def read_kexinit(self) -> Offer:
        """Wait for the server's KEXINIT (RFC 4253, section 7.1)."""
        (length,) = struct.unpack(">I", self._stream.read(4))
        packet = self._stream.read(length)
        body = SSHPacket(packet[1 : length - packet[0]])
        assert body.get_byte() == MSG_KEXINIT
        body.get_bytes(16)
        body.get_namelist()
        body.get_namelist()
        to_server, to_client = body.get_namelist(), body.get_namelist()
        return Offer([n.decode() for n in to_server], [n.decode() for n in to_client])

    def send_kexinit(self, to_server: list[str], to_client: list[str]) -> None:
        """Offer these ciphers."""
        lists: tuple[list[str], ...] = (
            ["curve25519-sha256"],
            ["ssh-ed25519"],
            to_server,
            to_client,
            *(["hmac-sha2-256-etm@openssh.com"],) * 2,
            *(["none"],) * 2,
            *([],) * 2,
        )
        encoded = b"".join(NameList(name.encode() for name in names) for names in lists)
        body = Byte(MSG_KEXINIT) + bytes(16) + encoded + Boolean(False) + UInt32(0)
        padding = 8 + -(5 + len(body)) % 8
        self._socket.sendall(
            UInt32(1 + len(body) + padding) + Byte(padding) + body + bytes(padding)
        )


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """A server with its defaults."""
    return start_server()


@pytest.mark.e2e
def test_client_that_waits_gets_the_servers_kexinit(start_server: StartServer) -> None:
    """One that wants to see the server's KEXINIT before it sends its own is not kept waiting."""
    server = start_server(program=PIPE)
    with Caller(server.port) as caller:
        offer = caller.read_kexinit()
        assert set(GCM) < set(offer.to_client)
        assert set(OTHERS) < set(offer.to_client)
        assert offer.to_server == offer.to_client


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("to_server", "to_client", "steered"),
    [
        ([OTHERS[0], GCM[0]], [OTHERS[0], GCM[0]], True),
        ([GCM[1], OTHERS[0]], [OTHERS[1], GCM[1]], True),
        (OTHERS, OTHERS, False),
        ([GCM[0], *OTHERS], OTHERS, False),
        ([GCM[0], *OTHERS], [GCM[1], *OTHERS], False),
    ],
    ids=["stock", "another size", "none", "one direction", "a different one each"],
)
def test_offer_depends_on_the_clients(
    server: Server, to_server: list[str], to_client: list[str], steered: bool
) -> None:
    """Only a client that can have AES-GCM in both directions is offered nothing else."""
    with Caller(server.port) as caller:
        caller.send_kexinit(to_server, to_client)
        offer = caller.read_kexinit()
        assert bool(set(offer.to_client) & set(OTHERS)) is not steered
        assert set(GCM) <= set(offer.to_client)


@pytest.mark.e2e
@pytest.mark.parametrize("body", [b"", b"short", bytes(16) + b"\xff" * 8], ids=repr)
def test_kexinit_that_cannot_be_read(server: Server, body: bytes) -> None:
    """A KEXINIT of junk ends that connection, and the next client is served."""
    with Caller(server.port) as caller:
        padding = 8 + -(6 + len(body)) % 8
        size = UInt32(2 + len(body) + padding)
        packet = size + Byte(padding) + Byte(MSG_KEXINIT) + body + bytes(padding)
        caller._socket.sendall(packet)
        caller._stream.read()
    assert server.run("alice", "whoami").wait() == Status.OK


# -- the check of asyncssh's names ----------------------------------------------------------------


def test_this_asyncssh_fits() -> None:
    """The version that the tests run with has every name."""
    check_internals()


def owner_of(name: str, cls: type) -> type:
    """The class that a method is defined in."""
    return next(base for base in cls.__mro__ if name in vars(base))


METHODS = [(owner, name) for owner, names in internals.METHODS.items() for name in names]


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in internals.FUNCTIONS.items() for name in names],
)
def test_missing_function_is_named(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    """The same for a module's function."""
    monkeypatch.delattr(module, name)
    with pytest.raises(StartError, match=f"{module.__name__}.{name} is missing"):
        check_internals()


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=[name for _, name in METHODS])
def test_missing_method_is_named(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """The message says in one line what is missing where, and what to do."""
    monkeypatch.delattr(owner_of(name, owner), name)
    if hasattr(owner, name):  # a base class has another one
        monkeypatch.setattr(owner, name, None, raising=False)
    with pytest.raises(StartError) as caught:
        check_internals()
    message = str(caught.value)
    assert f"{owner.__name__}.{name}" in message
    assert asyncssh.__version__ in message
    assert "--lane asyncssh" in message
    assert "\n" not in message


ATTRIBUTES = [(owner, name) for owner, names in internals.ATTRIBUTES.items() for name in names]


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES, ids=[name for _, name in ATTRIBUTES])
def test_missing_attribute_is_named(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """The same for what constructors set: one that no longer does is noticed."""

    class Renamed(owner):  # type: ignore[misc]
        """One that has another name for it."""

    known = internals._assigned_names(owner) - {name}
    monkeypatch.setattr(internals, "_assigned_names", lambda _: known)
    monkeypatch.setattr(internals, "ATTRIBUTES", {Renamed: (name,)})
    with pytest.raises(StartError, match=f"Renamed.{name} is missing"):
        check_internals()


def serve_without(name: str, lane: Lane, folder: Path) -> tuple[list[str], int]:
    """The command of a server whose asyncssh lacks a name, and its port."""
    port = free_port()
    program = (
        f"import asyncssh.connection as c; del c.SSHConnection.{name};"
        "import sys; from pipe.cli import main; sys.exit(main())"
    )
    options = {"port": port, "data-dir": folder, "metrics-port": 0, "lane": lane}
    words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    return [sys.executable, "-c", program, "serve", *words], port


@pytest.mark.e2e
def test_server_refuses_to_start_without_a_name(tmp_path: Path) -> None:
    """With one line on stderr, no traceback, and a status that says so."""
    assert hasattr(SSHConnection, MISSING)
    command, _ = serve_without(MISSING, Lane.FAST, tmp_path / "data")
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=ROOT,
        env=clients.bare_environment(),
        check=False,
    )
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert re.search(rf"SSHServerConnection\.{MISSING} is missing.*--lane asyncssh", lines[0])


@pytest.mark.e2e
def test_server_starts_without_a_name_on_asyncsshs_path(tmp_path: Path, keys: KeyRing) -> None:
    """`--lane asyncssh` needs none of them, and serves."""
    command, port = serve_without(MISSING, Lane.ASYNCSSH, tmp_path / "data")
    server = Process(command, environment=clients.bare_environment(), directory=ROOT)
    try:
        server.wait_stderr(rf"\b{port}\b")
        words = clients.openssh(port, keys.openssh("alice"), "alice", "whoami")
        assert Process(words, environment=clients.bare_environment()).wait() == Status.OK
    finally:
        server.kill()


async def test_ciphers_that_differ_are_both_told() -> None:
    """The log has one name for both directions, or one for each."""
    wire = await Wire.ready()
    assert wire.server.log_fields()["cipher"] == "aes128-gcm@openssh.com"
    wire.server.set_extra_info(recv_cipher="aes256-ctr", send_cipher="aes128-gcm@openssh.com")
    assert wire.server.log_fields()["cipher"] == "aes256-ctr, aes128-gcm@openssh.com"
    await wire.finish()
