"""Connections that ask slowly, badly or for nothing; proxies, quotas, TLS, hang-ups."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from pipe.errors import StartError
from pipe.service import Service
from pipe.settings import Settings
from pipe.store import Store
from pipe.web import door
from pipe.web.server import WebServer
from tests.tls import make_certificate

from .served import HOST, FakeTokens, request_head, serving

if TYPE_CHECKING:
    from pathlib import Path

    from .served import Served

STRICT = {"trusted_sources": "none", "login_timeout": 0.2, "penalty_min": 0.0}
"""Settings under which loopback has limits like any other address."""


def give_time(served: Served, seconds: float) -> None:
    """Let heads that begin from now on take so long."""
    service = served.service
    service.settings = service.settings.model_copy(update={"login_timeout": seconds})


@pytest.mark.parametrize("sent", [b"", b"GET /to", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_head_has_a_time(sent: bytes) -> None:
    """Whoever does not finish a request's head in time is cut off, and charged for it."""
    async with serving(**STRICT) as served:
        conn = await served.connect()
        await conn.send(sent)
        assert await conn.wait_closed_by_server() == b""
        assert served.service.gate.refuses(HOST, asyncio.get_running_loop().time())


async def test_each_head_has_a_time() -> None:
    """The second request on a connection has no more time than the first."""
    async with serving() as served:
        conn = await served.connect()
        await conn.send(request_head("HEAD", "/topic/build"))
        assert (await conn.response(head_only=True)).status == 404
        give_time(served, 0.1)
        await conn.send(b"GET /to")
        assert await conn.wait_closed_by_server() == b""


async def test_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that asks for nothing more is closed after a while."""
    monkeypatch.setattr(door, "KEEP_ALIVE_SECONDS", 0.05)
    async with serving() as served:
        conn = await served.connect()
        await conn.send(request_head("HEAD", "/topic/build"))
        await conn.response(head_only=True)
        assert await conn.wait_closed_by_server() == b""


async def test_streams_have_no_time() -> None:
    """A stream that waits is no slow head."""
    async with serving(login_timeout=0.5) as served:
        reader = await served.request("GET", "/topic/build")
        await served.wait_members(1)
        silent = await served.connect()  # has its time after the other one
        assert await silent.wait_closed_by_server() == b""
        give_time(served, 60.0)
        await served.ask("PUT", "/topic/build", b"late")
        assert (await reader.response()).body == b"late"


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET /topic/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /topic/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET /topic/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET /topic/a HTTP/1.1\r\nHost: x\r\n smuggled: 1\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 1000 + b"\r\n",
    ],
)
async def test_bad_heads(served: Served, head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What two parsers could read in two ways, and what is too long, is refused and closed.

    Nothing of it is logged: the address of a link is a secret.
    """
    conn = await served.connect()
    await conn.send(head)
    answer = await conn.wait_closed_by_server()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert answer.count(b"HTTP/1.") == 1
    assert b"Server: pipe\r\n" in answer
    assert not caplog.records


async def test_wrong_tokens_are_charged() -> None:
    """Tries to guess a token add to the penalties that SSH has."""
    settings = {**STRICT, "penalty_min": 8.0, "login_timeout": 10.0}
    async with serving(**settings) as served:
        for _ in range(2):
            assert (await served.ask("GET", "/topic/build", user="")).status == 401
            conn = await served.connect()
            await conn.send(
                request_head(
                    "GET", "/topic/build", user=None, headers={"Authorization": "Bearer x"}
                )
            )
            assert (await conn.response()).status == 401
        conn = await served.connect()
        assert await conn.wait_closed_by_server() == b""


async def test_basic_names_the_user(served: Served) -> None:
    """With Basic the token has to be the user's."""
    for user, status in (("alice", 404), ("bob", 401)):
        text = base64.b64encode(f"{user}:token-alice".encode()).decode()
        got = await served.ask(
            "HEAD", "/topic/build", user=None, headers={"Authorization": f"Basic {text}"}
        )
        assert got.status == status
    for header in ("Basic !", "Basic YWxpY2U=", "Digest x", "Bearer", ""):
        got = await served.ask("HEAD", "/topic/build", user=None, headers={"Authorization": header})
        assert got.status == 401


async def test_sessions_are_counted() -> None:
    """HTTP counts for the limits of users and addresses, and gives back what it took."""
    async with serving(max_sessions_per_user=2, trusted_sources="none") as served:
        readers = [await served.request("GET", "/topic/build") for _ in range(2)]
        await served.wait_members(2)
        got = await served.ask("GET", "/topic/build")
        assert (got.status, got.headers["pipe-outcome"]) == (429, "limited")
        assert got.headers["retry-after"]
        readers[0].close()
        await served.wait_members(1)
        assert (await served.ask("HEAD", "/topic/build")).status == 200


async def test_connections_are_counted() -> None:
    """One user has so many connections, over SSH and HTTP together."""
    async with serving(max_connections_per_user=1) as served:
        await served.request("GET", "/topic/build")
        await served.wait_members(1)
        assert (await served.ask("HEAD", "/topic/build")).status == 429


async def test_proxy_names_the_client() -> None:
    """The client of a proxy of ours is who the proxy says; anybody else's word is nothing."""
    for proxies, address in (("127.0.0.1", "203.0.113.9"), ("none", HOST)):
        async with serving(web_proxies=proxies) as served:
            await served.ask(
                "HEAD", "/topic/build", headers={"X-Forwarded-For": "10.9.9.9, 203.0.113.9"}
            )
            assert served.tokens.seen[-1][1] == address
            assert served.server.parts.warned is (proxies == "none")


async def test_clients_behind_a_proxy_are_refused_one_by_one() -> None:
    """A client that guesses tokens is refused, and others behind the same proxy are not."""
    async with serving(web_proxies="127.0.0.1", penalty_min=5.0) as served:
        bad = {"X-Forwarded-For": "203.0.113.9", "Authorization": "Bearer x"}
        for _ in range(2):
            await served.ask("HEAD", "/topic/build", user=None, headers=bad)
        assert (await served.ask("HEAD", "/topic/build", headers=bad)).status == 429
        good = {"X-Forwarded-For": "203.0.113.10"}
        assert (await served.ask("HEAD", "/topic/build", headers=good)).status == 404


async def test_plain_http_needs_a_word() -> None:
    """Tokens are not sent over a network in the open, unless somebody says so."""
    async with await Store.open("sqlite://") as store:
        for more in ({"web_proxies": "10.0.0.1"}, {"web_plain": True}):
            server = WebServer(Service(Settings(web_host="192.0.2.1", **more), store), FakeTokens())
            server.parts.hangups.close()
        with pytest.raises(StartError, match="in the open"):
            WebServer(Service(Settings(web_host="192.0.2.1"), store), FakeTokens())


async def test_tls_and_a_new_certificate(tmp_path: Path) -> None:
    """Streams go by TLS, a certificate that changes is taken, and slow handshakes are cut off."""
    make_certificate(tmp_path, "one")
    files = {"web_tls_cert": tmp_path / "cert.pem", "web_tls_key": tmp_path / "key.pem"}
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    async def ask(served: Served, name: str) -> None:
        reader, writer = await asyncio.open_connection(HOST, served.port, ssl=trusting)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        common = x509.load_der_x509_certificate(found).subject.rfc4514_string()
        assert common == f"CN={name}"
        writer.write(request_head("GET", "/topic/build", headers={"Connection": "close"}))
        await served.wait_members(1)
        other, other_writer = await asyncio.open_connection(HOST, served.port, ssl=trusting)
        body = b"z" * (1 << 20)
        other_writer.write(request_head("PUT", "/topic/build", len(body)) + body)
        got = await reader.read()
        assert len(got) > len(body)
        assert got.endswith(b"\r\n0\r\n\r\n")
        assert b"200 OK" in await other.readuntil(b"\r\n")
        writer.close()
        other_writer.close()

    async with serving(**files, login_timeout=2.0) as served:
        await ask(served, "one")
        make_certificate(tmp_path, "two")
        await ask(served, "two")
        plain = await served.connect()
        await plain.send(request_head("GET", "/topic/build"))
        await plain.wait_closed_by_server()
        silent = await served.connect()
        assert await silent.wait_closed_by_server() == b""
