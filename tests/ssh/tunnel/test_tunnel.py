"""HTTP inside SSH connections, on both data paths."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest
from asyncssh.constants import MSG_GLOBAL_REQUEST
from asyncssh.packet import Boolean, String

from pipe.ssh.tunnel.tunnels import MAX_TUNNELS
from tests.e2e.processes import DEADLINE
from tests.e2e.server import LANES
from tests.ssh.serving import connect, run
from tests.tunnelling import KEYS, Tunnelled, head, tunnelling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.web.served import Conn

NO_MORE_SESSIONS = "no-more-sessions@openssh.com"

WINDOW = 64 * 1024
MIB = 1 << 20
AIOHTTP_BYTES = 256 * 1024
"""What aiohttp may read or write ahead."""

DATA = bytes(range(251)) * (4 * MIB // 251)


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    """The server's data path."""
    value: str = request.param
    return value


@pytest.fixture
async def server(tmp_path: Path, lane: str) -> AsyncIterator[Tunnelled]:
    """A server with small windows and buffers, that changes keys after every MiB."""
    async with tunnelling(
        tmp_path, lane=lane, window=WINDOW, buffer=WINDOW, rekey_bytes=MIB
    ) as server:
        yield server


async def until(true: Callable[[], object], what: str) -> None:
    """Wait until something is so that has no event."""
    async with asyncio.timeout(DEADLINE):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert true(), what


def members(server: Tunnelled) -> list[Any]:
    """All that are on a topic."""
    return [one for one in server.service.sessions if one.member and one.member.joined]


async def publish(server: Tunnelled, client: asyncssh.SSHClientConnection) -> Conn:
    """Begin an upload without an end, and wait until it is on the topic."""
    conn = await server.tunnel(client)
    await conn.send(head("PUT", "/topic/build", headers={"Transfer-Encoding": "chunked"}))
    await until(lambda: members(server), "a publisher")
    return conn


async def read(server: Tunnelled, client: asyncssh.SSHClientConnection) -> Conn:
    """Begin to read, and wait until it is on the topic."""
    conn = await server.tunnel(client)
    await conn.send(head("GET", "/topic/build"))
    await until(lambda: members(server), "a reader")
    return conn


async def test_a_stream_through_two_tunnels(server: Tunnelled) -> None:
    """What goes in comes out, through key exchanges, and who it is needs no token."""
    client = await server.log_in()
    reader = await read(server, client)
    sent = asyncio.create_task(server.ask(client, "PUT", "/topic/alice/build", DATA))
    got = await reader.response()
    assert got.whole
    assert hashlib.sha256(got.body).digest() == hashlib.sha256(DATA).digest()
    answer = await sent
    assert answer.status == 200
    assert "to 1 subscriber" in answer.text


async def test_requests_one_after_the_other(server: Tunnelled) -> None:
    """A tunnel is kept for the next request, and closed with the last."""
    client = await server.log_in()
    conn = await server.tunnel(client)
    for _ in range(3):
        await conn.send(head("GET", "/api/whoami"))
        got = await conn.response()
        assert got.json["user"] == "alice"
    await conn.send(head("GET", "/healthz", headers={"Connection": "close"}))
    assert (await conn.response()).status == 200
    assert await conn.wait_closed_by_server() == b""


async def test_a_publisher_is_held_back(server: Tunnelled) -> None:
    """While nobody reads, no more is taken than the window and what aiohttp reads ahead."""
    client = await server.log_in()
    conn = await publish(server, client)
    [tunnel] = server.transports
    conn.writer.write(b"%x\r\n" % len(DATA) + DATA + b"\r\n0\r\n\r\n")
    await until(lambda: not tunnel.is_reading(), "it is full")
    await run(client, "whoami")  # by now all has come that may
    waiting = conn.writer.channel.get_write_buffer_size()  # type: ignore[attr-defined]  # asyncssh's
    assert len(DATA) - waiting <= 2 * AIOHTTP_BYTES + 2 * WINDOW
    reader = await server.tunnel(await server.log_in())
    await reader.send(head("GET", "/topic/build"))
    assert (await reader.response()).body == DATA
    assert (await conn.response()).status == 200


async def test_a_reader_holds_the_publisher_back(server: Tunnelled) -> None:
    """A client that reads nothing clogs its port, and gets every byte once it does."""
    client = await server.log_in()
    reader = await server.tunnel(client)
    channel = reader.reader.channel  # type: ignore[attr-defined]  # asyncssh's
    channel.pause_reading()
    await reader.send(head("GET", "/topic/build"))
    await until(lambda: members(server), "a reader")
    [session] = members(server)
    sent = asyncio.create_task(server.ask(await server.log_in(), "PUT", "/topic/build", DATA))
    await until(lambda: session.member.sink.clogged, "clogged")
    await run(client, "whoami")  # by now all has gone that may
    tunnel = server.transports[0]
    assert tunnel.get_write_buffer_size() <= 2 * AIOHTTP_BYTES
    channel.resume_reading()
    assert (await reader.response()).body == DATA
    assert (await sent).status == 200


async def test_a_publisher_that_hangs_up_while_it_waits(server: Tunnelled) -> None:
    """Its end of file is seen although nothing is read: whoever comes next gets nothing of it."""
    client = await server.log_in()
    conn = await publish(server, client)
    await conn.send(b"4\r\ndead\r\n")
    conn.writer.write_eof()
    await until(lambda: not members(server), "the publisher has gone")


async def test_a_reader_that_hangs_up(server: Tunnelled) -> None:
    """Neither its end of file nor its close leaves a ghost on the topic."""
    client = await server.log_in()
    for hang_up in ("close", "write_eof"):
        conn = await read(server, client)
        getattr(conn.writer, hang_up)()
        await until(lambda: not members(server), "the reader has gone")


async def test_a_broken_stream_looks_broken(server: Tunnelled) -> None:
    """A reader whose publisher vanishes does not see the last chunk."""
    client = await server.log_in()
    reader = await read(server, client)
    conn = await server.tunnel(await server.log_in())
    await conn.send(head("PUT", "/topic/build", 1000) + b"half")
    assert (await reader.head())[0] == 200
    assert await reader.chunk() == b"half"
    conn.writer.channel.abort()  # type: ignore[attr-defined]  # asyncssh's
    assert await reader.chunk() is None


async def test_a_connection_that_ends_takes_its_tunnels_along(server: Tunnelled) -> None:
    """They end as the sessions do."""
    client = await server.log_in()
    await read(server, client)
    await publish(server, await server.log_in("bob"))
    client.abort()
    await until(lambda: len(members(server)) == 1, "only bob is left")


async def test_tunnels_are_counted_apart(server: Tunnelled) -> None:
    """There are so many on one connection, beside its sessions."""
    client = await server.log_in()
    conns = [await server.tunnel(client) for _ in range(MAX_TUNNELS)]
    with pytest.raises(asyncssh.ChannelOpenError, match="more than 32 tunnels"):
        await server.tunnel(client)
    assert "alice" in await run(client, "whoami")
    conns.pop().close()
    await until(lambda: len(server.web.parts.door) < MAX_TUNNELS, "one is gone")
    await server.tunnel(client)


async def test_it_is_listed(server: Tunnelled) -> None:
    """`ls` shows a member in a tunnel as any other: whose it is, and from where."""
    client = await server.log_in()
    await read(server, client)
    assert "build" in await run(client, "ls")
    [session] = members(server)
    assert session.caller.user == "alice"
    assert session.address == "127.0.0.1"


@pytest.mark.parametrize("way", ["ssh -N", "a tunnel"])
async def test_tunnels_keep_a_connection(tmp_path: Path, way: str) -> None:
    """`ssh -N` may wait for its first request, and whoever had one for the next.

    Others without a channel are closed as ever.
    """
    async with tunnelling(tmp_path, idle_timeout=1.0) as server:
        client = await server.log_in()
        if way == "ssh -N":
            client.send_packet(MSG_GLOBAL_REQUEST, String(NO_MORE_SESSIONS), Boolean(False))
        else:
            assert (await server.ask(client, "GET", "/healthz")).status == 200
        idle = await server.log_in("bob")
        await idle.wait_closed()
        assert (await server.ask(client, "GET", "/healthz")).status == 200


async def test_a_login_that_is_over(server: Tunnelled) -> None:
    """Whose account is removed has its streams cut, and may ask for nothing more."""
    client = await server.log_in()
    reader = await read(server, client)
    idle = await server.tunnel(client)
    await server.service.store.remove_user("alice")
    await server.service.guard.catch_up()
    got = await reader.response()
    assert got.status == 403
    await idle.send(head("GET", "/api/whoami"))
    assert (await idle.response()).status == 403
    with pytest.raises(asyncssh.ChannelOpenError, match="was removed"):
        await server.tunnel(client)


async def test_a_token_counts_instead(server: Tunnelled) -> None:
    """Who shows a token in a tunnel has its rights, which are fewer."""
    client = await server.log_in()
    text = (await run(client, "tokens add --read other")).strip()
    headers = {"Authorization": f"Bearer {text}"}
    got = await server.ask(client, "PUT", "/topic/build?block=false", b"x", headers=headers)
    assert got.status == 403
    assert (await server.ask(client, "PUT", "/topic/build?block=false", b"x")).status == 200


async def test_forwarded_addresses_do_not_count(tmp_path: Path) -> None:
    """Nobody in a tunnel says where it comes from, even if its client is where a proxy is."""
    async with tunnelling(tmp_path, web_proxies="127.0.0.0/8") as server:
        client = await server.log_in()
        conn = await server.tunnel(client)
        await conn.send(head("GET", "/topic/build", headers={"X-Forwarded-For": "192.0.2.9"}))
        await until(lambda: members(server), "a reader")
        assert members(server)[0].address == "127.0.0.1"


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "evil.example:1338"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "https://localhost:1338"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]

OWN = [
    {},
    {"Host": "127.0.0.1"},
    {"Host": "[::1]:1338"},
    {"Host": "pipe"},
    {"Origin": "http://localhost:1338"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_pages_of_others_are_turned_away(tmp_path: Path, headers: dict[str, str]) -> None:
    """By their name, their origin or what the browser says of them, and for every address."""
    async with tunnelling(tmp_path) as server:
        client = await server.log_in()
        for method, path in (
            ("GET", "/topic/build"),
            ("POST", "/topic/build"),
            ("OPTIONS", "/topic/build"),
            ("GET", "/"),
            ("GET", "/v2/"),
            ("GET", "/api/whoami"),
        ):
            got = await server.ask(client, method, path, headers=headers)
            assert got.status == 403, (method, path)
            assert "access-control-allow-origin" not in got.headers
        websocket = {"Connection": "Upgrade", "Upgrade": "websocket", **headers}
        assert (await server.ask(client, "GET", "/pipe/build", headers=websocket)).status == 403


async def test_programs_and_the_own_page_are_let_in(tmp_path: Path) -> None:
    """By each name that only the user's machine has; never with a word to pages of others."""
    async with tunnelling(tmp_path) as server:
        client = await server.log_in()
        for headers in OWN:
            got = await server.ask(client, "GET", "/api/whoami", headers=headers)
            assert got.json["user"] == "alice", headers
            assert "access-control-allow-origin" not in got.headers


async def test_http_1_0_is_refused(tmp_path: Path) -> None:
    """It could not tell a broken stream from a whole one: there is no reset in a tunnel."""
    async with tunnelling(tmp_path) as server:
        client = await server.log_in()
        for host in ("localhost", ""):
            got = await server.ask(
                client, "GET", "/topic/build", version="1.0", headers={"Host": host}
            )
            assert got.status == 505
            assert "use HTTP/1.1" in got.text


@pytest.mark.parametrize(
    ("host", "port"),
    [("localhost", 22), ("localhost", 8222), ("127.0.0.2", 80), ("example.com", 80), ("", 80)],
)
async def test_other_places(tmp_path: Path, host: str, port: int) -> None:
    """A tunnel to anywhere else is refused, and the client is told what there is."""
    async with tunnelling(tmp_path) as server:
        client = await server.log_in()
        with pytest.raises(asyncssh.ChannelOpenError, match="only localhost:80"):
            await server.tunnel(client, host, port)
        assert "alice" in await run(client, "whoami")


async def test_other_forwarding(tmp_path: Path) -> None:
    """Ports are not forwarded the other way, and sockets in no way, also after a tunnel."""
    async with tunnelling(tmp_path) as server:
        client = await server.log_in()
        assert (await server.ask(client, "GET", "/healthz")).status == 200
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_port("", 0, "127.0.0.1", 80)
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.open_unix_connection("/run/x.sock")


async def test_without_tunnels(tmp_path: Path) -> None:
    """An operator can have none."""
    async with tunnelling(tmp_path, web_tunnel=False) as server:
        client = await server.log_in()
        with pytest.raises(asyncssh.ChannelOpenError, match="has no HTTP to forward to"):
            await server.tunnel(client)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("restrict", "may not forward"),
        ("no-port-forwarding", "may not forward"),
        ('permitopen="localhost:22"', "permitopen"),
        ('command="whoami"', "runs one command"),
        ("restrict,port-forwarding", ""),
        ('permitopen="localhost:80"', ""),
    ],
)
async def test_key_files(tmp_path: Path, options: str, reason: str) -> None:
    """A line of a key file holds its tunnels back as it does in sshd."""
    folder = tmp_path / "keys"
    folder.mkdir()
    line = KEYS["alice"].export_public_key().decode()
    (folder / "alice").write_text(f"{options} {line}")
    async with tunnelling(tmp_path / "data", authorized_keys=folder) as server:
        client = await server.log_in()
        if not reason:
            assert (await server.ask(client, "GET", "/healthz")).status == 200
            return
        with pytest.raises(asyncssh.ChannelOpenError, match=reason):
            await server.tunnel(client)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"permit_port_forwarding": False}, "may not forward"),
        ({"force_command": "whoami"}, "runs one command"),
        ({}, ""),
    ],
)
async def test_certificates(tmp_path: Path, terms: dict[str, Any], reason: str) -> None:
    """A certificate has to permit forwarding, and to leave the command open."""
    authority = asyncssh.generate_private_key("ssh-ed25519")
    file = tmp_path / "ca.pub"
    file.write_bytes(authority.export_public_key())
    key = KEYS["alice"]
    certificate = authority.generate_user_certificate(key, "id", principals=["alice"], **terms)
    async with (
        tunnelling(tmp_path / "data", trusted_ca=file) as server,
        await connect(server.service, "alice", (key, certificate)) as client,
    ):
        if not reason:
            assert (await server.ask(client, "GET", "/healthz")).status == 200
            return
        with pytest.raises(asyncssh.ChannelOpenError, match=reason):
            await server.tunnel(client)


async def test_a_stop(tmp_path: Path) -> None:
    """While the server stops no tunnel is opened, and one that is idle is closed."""
    async with tunnelling(tmp_path) as server:
        client = await server.log_in()
        idle = await server.tunnel(client)
        server.service.draining = True
        server.web.stop_accepting()
        assert await idle.wait_closed_by_server() == b""
        with pytest.raises(asyncssh.ChannelOpenError, match="shutting down"):
            await server.tunnel(client)
