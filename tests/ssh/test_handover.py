"""A live connection goes to another process, and its client notices nothing."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import asyncssh
import paramiko
import pytest
from structlog.testing import capture_logs

from pipe.limits.quotas import Holder, Resource, Scope
from pipe.ssh.handover import why_not
from pipe.ssh.windows import MAX_PACKET_BYTES
from tests.e2e.clients import HOST, dropbear
from tests.e2e.payloads import MIB, noise
from tests.e2e.server import Status
from tests.ssh import other_process
from tests.ssh.house import THERE, House, all_ended, ended, unused_input, with_settings
from tests.ssh.serving import connect, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.clients import KeyRing

TALKATIVE = ("-o", "LogLevel=DEBUG1")


def rekeyings(text: str) -> int:
    """How often a client says that it has got new keys, the first ones not counted."""
    return text.count("SSH2_MSG_NEWKEYS received") - 1


# -- clients --------------------------------------------------------------------------------------


async def test_reader_and_writer(house: House) -> None:
    """Both are moved; every byte arrives, both end with 0, and no line tells of a lost client."""
    with capture_logs() as logs:
        reader = await house.ssh("alice", "sub there")
        await house.until_reading()
        writer = await house.ssh("alice", "pub there")
        data = noise(3 * MIB)
        wrote, read = await all_ended(writer, data, reader)
    assert (wrote.status, read.status, read.stdout == data) == (0, 0, True), (wrote, read.stderr)
    assert f"sent {len(data)} bytes to 1 subscriber" in wrote.stderr
    assert house.moves == 2
    events = [one["event"] for one in logs]
    assert events.count("connection handed over") == 2
    assert events.count("session ended") == 2
    assert not [one for one in logs if one["log_level"] in {"warning", "error"}]


async def test_pipe(house: House) -> None:
    """A `pipe` goes on in both directions after the move."""
    one = await house.ssh("alice", "pipe there")
    await house.until_reading(1)
    other = await house.ssh("alice", "pipe there")
    await house.until_reading(2)
    assert one.stdin
    assert one.stdout
    assert other.stdin
    assert other.stdout
    one.stdin.write(b"from one\n")
    assert await other.stdout.readline() == b"from one\n"
    other.stdin.write(b"from the other\n")
    assert await one.stdout.readline() == b"from the other\n"
    first, second = await asyncio.gather(ended(one), ended(other))
    assert (first.status, second.status) == (0, 0)


async def test_input_from_before(house: House) -> None:
    """What was sent before the move begins the stream, in chunks no larger than packets."""
    reader = await house.ssh("alice", "sub there")
    await house.until_reading()
    house.hold = True
    writer = await house.ssh("alice", "pub there")
    await house.until_held()
    channel = house.held[0]
    data = noise(300_000)
    assert writer.stdin
    writer.stdin.write(data)
    await writer.stdin.drain()
    await house.until(
        lambda: channel.channel.get_recv_window() and unused_input(channel) >= 300_000
    )
    await house.move(channel)
    more = noise(MIB, seed=1)
    with capture_logs() as logs:
        wrote, read = await all_ended(writer, more, reader)
    assert (wrote.status, read.status, read.stdout == data + more) == (0, 0, True)
    [told] = [one for one in logs if one["event"] == "session ended" and one["mode"] == "publish"]
    assert told["received_chunks"] >= len(data + more) / MAX_PACKET_BYTES


async def test_end_of_file_from_before(house: House) -> None:
    """A stream that ended before the move arrives whole, and its end is not lost."""
    reader = await house.ssh("alice", "sub there")
    await house.until_reading()
    house.hold = True
    writer = await house.ssh("alice", "pub there")
    await house.until_held()
    channel = house.held[0]
    waits = asyncio.create_task(ended(writer, b"all of it"))
    await house.until(lambda: channel.channel._recv_state == "eof")  # noqa: SLF001
    await house.move(channel)
    wrote, read = await waits, await ended(reader)
    assert (wrote.status, read.status, read.stdout) == (0, 0, b"all of it")


async def transfer(house: House, size: int, *options: str) -> tuple[int, int]:
    """Move a reader and a writer, send so much, and return how often each got new keys."""
    reader = await house.ssh("alice", "sub there", *TALKATIVE, *options)
    await house.until_reading()
    writer = await house.ssh("alice", "pub there", *TALKATIVE, *options)
    data = noise(size)
    wrote, read = await all_ended(writer, data, reader)
    assert (wrote.status, read.status) == (0, 0), (wrote.stderr, read.stderr)
    assert read.stdout == data
    assert house.moves == 2 * (len(house.route) - 1)
    return rekeyings(wrote.stderr), rekeyings(read.stderr)


@pytest.mark.parametrize(
    ("size", "limit"), [(16, 2), pytest.param(64, 5, marks=pytest.mark.slow)], ids=str
)
async def test_client_asks_for_new_keys(house: House, size: int, limit: int) -> None:
    """`RekeyLimit` after the move: the keys change several times, in both directions."""
    by_writer, by_reader = await transfer(house, size * MIB, "-o", f"RekeyLimit={limit}M")
    assert by_writer >= size // limit // 2
    assert by_reader >= size // limit // 4


@with_settings(rekey_bytes="1MiB")
async def test_server_asks_for_new_keys(house: House) -> None:
    """`--rekey-bytes` after the move: the same for keys that the server wants to be changed."""
    _, by_reader = await transfer(house, 8 * MIB)
    assert by_reader >= 4


@with_settings(rekey_bytes="1MiB")
async def test_there_and_back(house: House) -> None:
    """Moves one after the other, and key exchanges by both sides after them."""
    house.route = (0, 1, 0, 1)
    by_writer, by_reader = await transfer(house, 8 * MIB, "-o", "RekeyLimit=2M")
    assert by_writer >= 2
    assert by_reader >= 4


async def test_new_keys_before(house: House) -> None:
    """A connection whose keys have changed before the move goes on with the new ones."""
    house.hold = True
    reader = await house.ssh("alice", "sub there", *TALKATIVE)
    await house.until_held()
    connection: Any = house.held[0].connection
    connection._send_kexinit()  # noqa: SLF001
    connection._kexinit_sent = True  # noqa: SLF001
    assert why_not(house.held[0]) == "keys are exchanged on it"
    await house.until(lambda: connection.keys == 2 and not why_not(house.held[0]))
    await house.move(house.held[0])
    await house.until_reading()
    house.hold = False
    writer = await house.ssh("alice", "pub there")
    wrote, read = await all_ended(writer, b"new", reader)
    assert (wrote.status, read.status, read.stdout) == (0, 0, b"new")
    assert rekeyings(read.stderr) == 1


async def test_second_session(house: House, tmp_path: Path) -> None:
    """`ControlMaster`: a second session on the moved connection, while the first one reads."""
    path = tmp_path / "control"
    reader = await house.ssh("alice", "sub there", "-M", "-S", str(path))
    await house.until_reading()
    more = ("-S", str(path))
    asked = await ended(await house.ssh("alice", "whoami", *more))
    assert asked.status == 0
    assert asked.stdout.startswith(b"user     alice"), asked
    wrote, read = await all_ended(await house.ssh("alice", "pub there", *more), b"hello", reader)
    assert (wrote.status, read.status, read.stdout) == (0, 0, b"hello")
    assert house.moves == 1


async def test_dropbear(house: House, keys: KeyRing) -> None:
    """Dropbear's client, which has no AES-GCM, stays and is served as ever."""
    house.route = (0,)
    reader = await house.ssh("alice", "sub there")
    await house.until(lambda: house.services[0].sessions)
    house.route = THERE
    words = dropbear(house.services[0].port, keys.dropbear("alice"), "alice", "pub there")
    wrote, read = await all_ended(await house.start(words, writes=True), b"hello", reader)
    assert house.unmoved == ["its cipher is not AES-GCM"]
    assert (wrote.status, read.status, read.stdout) == (0, 0, b"hello")


async def test_asyncssh(house: House, keys: KeyRing) -> None:
    """A client of asyncssh is moved, and opens further sessions."""
    key = asyncssh.read_private_key(keys.openssh("alice"))
    async with await connect(house.services[0], "alice", key) as client:
        async with await client.create_process("sub there", encoding=None) as reader:
            await house.until_reading()
            async with await client.create_process("pub there", encoding=None) as writer:
                writer.stdin.write(b"hello")
                writer.stdin.write_eof()
                assert await reader.stdout.read() == b"hello"
        assert (await run(client, "whoami")).startswith("user     alice")
    assert house.moves == 1


async def test_paramiko(house: House, keys: KeyRing) -> None:
    """A client of paramiko is moved, with the cipher that the lane takes."""
    reader = await house.ssh("alice", "sub there")
    await house.until_reading()
    key, port = paramiko.Ed25519Key.from_private_key_file(str(keys.openssh("alice"))), 0
    port = house.services[0].port

    def publish() -> int:
        with paramiko.Transport((HOST, port)) as transport:
            transport.connect(username="alice", pkey=key)
            with transport.open_session() as session:
                session.exec_command("pub there")
                session.sendall(b"hello")
                session.shutdown_write()
                return session.recv_exit_status()

    status, read = await asyncio.gather(asyncio.to_thread(publish), ended(reader))
    assert (status, read.status, read.stdout) == (0, 0, b"hello")


# -- failures -------------------------------------------------------------------------------------


@with_settings(max_sessions_per_user=1)
async def test_quota(house: House) -> None:
    """A session that moves has its place already: it is counted where it goes, and not refused."""
    other, alice = house.services[1].quotas, Holder(Scope.USER, "alice")
    other.take(Resource.SESSIONS, alice)
    found = await ended(await house.ssh("alice", "pub --block=false there"), b"hello")
    assert found.status == Status.OK
    assert house.refused == []
    assert other.held(Resource.SESSIONS, alice) == 1
    other.give_back(Resource.SESSIONS, alice)


@with_settings(max_connections_per_user=1)
async def test_connection_quota(house: House) -> None:
    """The same for connections."""
    other = house.services[1].quotas
    other.take(Resource.CONNECTIONS, Holder(Scope.USER, "alice"))
    found = await ended(await house.ssh("alice", "sub there"))
    other.give_back(Resource.CONNECTIONS, Holder(Scope.USER, "alice"))
    assert found.status == Status.NO_CONNECTION
    assert "too many connections of this user" in found.stderr
    assert house.refused == ["too many connections of this user: at most 1 at once"]


async def test_draining(house: House) -> None:
    """A server that stops takes nothing over."""
    house.services[1].draining = True
    found = await ended(await house.ssh("alice", "sub there"))
    assert found.status == Status.NO_CONNECTION
    assert house.refused == ["the server is shutting down"]


async def test_damage_on_the_way(house: House) -> None:
    """A state that arrives damaged is refused: the client sees a closed connection."""
    house.hold = True
    client = await house.ssh("alice", "sub there")
    await house.until_held()
    await house.move(house.held[0], lambda state: state[:-1] + bytes([state[-1] ^ 1]))
    found = await ended(client)
    assert found.status == Status.NO_CONNECTION
    assert house.refused == ["the state of a connection is damaged"]


async def test_client_that_is_gone(house: House) -> None:
    """A client that hangs up while it is on its way leaves nothing behind."""
    house.hold = True
    client = await house.ssh("alice", "sub there")
    await house.until_held()
    parcel = house.take_out(house.held[0])
    client.kill()
    await client.wait()
    await house.servers[1].adopt(parcel.cargo.encode(), parcel.socket)
    await house.until(lambda: not house.services[1].connections)
    house.held.clear()  # its session has come there, or not


# -- two processes --------------------------------------------------------------------------------


async def start_other(folder: Path, way: str) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a second server in a process of its own."""
    here, there = socket.socketpair()
    with there:
        words = (sys.executable, "-m", other_process.__name__, folder, str(there.fileno()), way)
        process = await asyncio.to_thread(
            subprocess.Popen,
            words,
            pass_fds=[there.fileno()],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
    return here, process


async def send_on(house: House, channel: socket.socket) -> str:
    """Send the one connection that is held to the other process, and return the answer."""
    await house.until_held()
    parcel = house.take_out(house.held[0])
    return await asyncio.to_thread(
        other_process.send, channel, parcel.cargo.encode(), parcel.socket
    )


async def test_another_process(house: House, tmp_path: Path) -> None:
    """A writer and a reader go to another process, and their stream is whole there."""
    house.hold = True
    channel, process = await start_other(tmp_path / "data", other_process.SERVES)
    with channel, process:
        data = noise(4 * MIB)
        reader = await house.ssh("alice", "sub there", "-o", "RekeyLimit=1M")
        assert await send_on(house, channel) == ""
        writer = await house.ssh("alice", "pub there", "-o", "RekeyLimit=1M")
        assert await send_on(house, channel) == ""
        await house.empty()
        wrote, read = await all_ended(writer, data, reader)
        channel.shutdown(socket.SHUT_WR)
        _, said = await asyncio.to_thread(process.communicate)
    assert (wrote.status, read.status, read.stdout == data) == (0, 0, True), said.decode()
    assert process.returncode == 0


async def test_other_process_dies(house: House, tmp_path: Path) -> None:
    """A process that dies with a connection in its hands: the client sees that it was closed."""
    house.hold = True
    channel, process = await start_other(tmp_path / "data", other_process.DIES)
    with channel, process:
        client = await house.ssh("alice", "sub there")
        await send_on(house, channel)
        await asyncio.to_thread(process.communicate)
    found = await ended(client)
    assert found.status == Status.NO_CONNECTION
    await house.empty()
