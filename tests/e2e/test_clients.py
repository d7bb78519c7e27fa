"""The same service for other SSH clients: dropbear, PuTTY and paramiko, against OpenSSH."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

import paramiko
import pytest

from . import clients
from .payloads import MIB, noise, sha256
from .processes import DEADLINE, Input, Process, statuses
from .server import Server, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paramiko import Channel

pytestmark = [pytest.mark.e2e, pytest.mark.data_path]

DATA = noise(4 * MIB)


def host_key(server: Server) -> str:
    """The fingerprint of the server's key, as a careful person would have it beforehand."""
    with contextlib.closing(paramiko.Transport((clients.HOST, server.port))) as transport:
        transport.start_client(timeout=DEADLINE)
        fingerprint: str = transport.get_remote_server_key().fingerprint
        return fingerprint


def start(server: Server, program: str, command: str, stdin: Input = None) -> Process:
    """Start another client than OpenSSH's as alice.

    dbclient 2022.83 may miss that its channel is closed, and ends with the right status only when
    the server hangs up after its `idle-timeout`, a minute later.
    """
    if program == "dbclient":
        words = clients.dropbear(server.port, server.keys.dropbear("alice"), "alice", command)
    else:
        key = server.keys.putty("alice")
        words = clients.plink(server.port, key, "alice", command, host_key(server))
    return server.adopt(Process(words, stdin=stdin, environment=clients.bare_environment()))


PROGRAMS = ("dbclient", "plink")


def test_no_client_takes_the_server_for_a_faulty_release(server: Server) -> None:
    """It calls itself OpenSSH without a number, by which clients look for old releases.

    OpenSSH finds the one entry that is for every OpenSSH, and PuTTY none.
    """
    usual = server.ssh("alice", "version", options=("-v", "-o", "LogLevel=DEBUG1"))
    key = server.keys.putty("alice")
    words = clients.plink(server.port, key, "alice", "version", host_key(server))
    other = server.adopt(
        Process([words[0], "-v", *words[1:]], environment=clients.bare_environment())
    )

    assert statuses(usual, other) == [Status.OK] * 2
    assert "match: OpenSSH_pipe pat OpenSSH* compat 0x04000000" in usual.text
    assert "Remote version: SSH-2.0-OpenSSH_pipe" in other.text
    assert "We believe remote version" not in other.text


@pytest.mark.parametrize("program", PROGRAMS)
def test_other_client_publishes(server: Server, program: str) -> None:
    """Its bytes arrive whole, and both sides end with status 0."""
    readers = server.subscribe("alice", "sub mixed", count=2)
    writer = start(server, program, "pub mixed", stdin=DATA)

    assert statuses(writer, *readers) == [Status.OK] * 3
    assert [sha256(reader.stdout.data) for reader in readers] == [sha256(DATA)] * 2
    assert f"sent {len(DATA)} bytes to 2 subscribers" in writer.text


@pytest.mark.parametrize("program", PROGRAMS)
def test_other_client_subscribes(server: Server, program: str) -> None:
    """It gets all bytes, beside an OpenSSH client that does, and status 0."""
    [usual] = server.subscribe("alice", "sub mixed")
    other = start(server, program, "sub mixed")
    server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub mixed", stdin=DATA)

    assert statuses(writer, usual, other) == [Status.OK] * 3
    assert sha256(other.stdout.data) == sha256(usual.stdout.data) == sha256(DATA)
    assert f"sent {len(DATA)} bytes to 2 subscribers\n" in writer.text


@pytest.mark.parametrize("program", PROGRAMS)
def test_other_client_confirms(server: Server, program: str) -> None:
    """It closes its channel when it has everything: alone, it lets its writer end with 0."""
    other = start(server, program, "sub mixed")
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub mixed", stdin=DATA)

    assert statuses(writer, other) == [Status.OK] * 2
    assert f"sent {len(DATA)} bytes to 1 subscriber\n" in writer.text


@pytest.mark.parametrize("program", PROGRAMS)
def test_other_client_gets_the_statuses(server: Server, program: str) -> None:
    """Statuses that are not 0 reach it too, with their line on stderr."""
    other = start(server, program, "sub verdict")
    server.wait_sessions(subscribe=1)
    assert server.run("alice", "pub -x 3 verdict", stdin=b"no").wait() == Status.OK
    assert other.wait() == 3

    mistaken = start(server, program, "frobnicate")
    assert mistaken.wait() == Status.USAGE
    assert "frobnicate" in mistaken.text


@contextlib.contextmanager
def paramiko_session(server: Server, command: str) -> Iterator[Channel]:
    """A channel of a paramiko connection of its own on which alice runs `command`."""
    with contextlib.closing(paramiko.SSHClient()) as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            clients.HOST,
            server.port,
            "alice",
            key_filename=str(server.keys.openssh("alice")),
            allow_agent=False,
            look_for_keys=False,
            timeout=DEADLINE,
        )
        transport = client.get_transport()
        assert transport
        channel = transport.open_session()
        channel.settimeout(DEADLINE)
        channel.exec_command(command)
        yield channel


def test_paramiko_publishes(server: Server) -> None:
    """A paramiko writer's bytes arrive whole, and it gets its receipt and status 0."""
    [reader] = server.subscribe("alice", "sub snake")
    with paramiko_session(server, "pub snake") as channel:
        channel.sendall(DATA)
        channel.shutdown_write()
        with channel.makefile_stderr() as stderr:
            text = stderr.read().decode()
        assert channel.recv_exit_status() == Status.OK

    assert reader.wait() == Status.OK
    assert sha256(reader.stdout.data) == sha256(DATA)
    assert f"sent {len(DATA)} bytes to 1 subscriber" in text


def test_paramiko_subscribes(server: Server) -> None:
    """A paramiko reader gets all bytes and status 0, and confirms unless it hangs up at once."""
    digest = hashlib.sha256()
    with paramiko_session(server, "sub snake") as channel:
        server.wait_sessions(subscribe=1)
        writer = server.ssh("alice", "pub snake", stdin=DATA)
        while data := channel.recv(1 << 15):
            digest.update(data)
        assert channel.recv_exit_status() == Status.OK
        # A thread of paramiko's closes the channel: with an answer to this it has done so.
        transport = channel.get_transport()
        assert transport
        transport.global_request("keepalive@openssh.com", wait=True)

    assert writer.wait() == Status.OK
    assert digest.hexdigest() == sha256(DATA)


CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")


@pytest.mark.parametrize("cipher", [*CIPHERS, "aes256-ctr"])
def test_every_cipher_carries_the_stream(server: Server, cipher: str) -> None:
    """With each cipher that the server offers, both ways."""
    options = ("-c", cipher)
    reader = server.ssh("alice", "sub cipher", options=options)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub cipher", stdin=DATA, options=options)

    assert statuses(writer, reader) == [Status.OK] * 2
    assert sha256(reader.stdout.data) == sha256(DATA)


def test_rekeying_loses_nothing(server: Server) -> None:
    """Keys that are changed at every MiB by both clients leave the stream as it is."""
    data = noise(24 * MIB)
    options = ("-o", "RekeyLimit=1M")
    readers = [server.ssh("alice", "sub rekey", options=options) for _ in range(2)]
    server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub rekey", stdin=data, options=options)

    assert statuses(writer, *readers) == [Status.OK] * 3
    assert [sha256(reader.stdout.data) for reader in readers] == [sha256(data)] * 2
