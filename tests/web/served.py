"""A server of HTTP in the test's process, whom it lets in, and members beside its clients."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pipe.errors import AccessDenied, Refusal, TokenRefused
from pipe.rights.callers import Caller
from pipe.service import Service
from pipe.settings import Settings
from pipe.store import Store
from pipe.web.server import WebServer
from tests.e2e.processes import DEADLINE
from tests.e2e.server import free_port
from tests.sessions import People, fingerprint

from . import tickets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pipe.rights.scopes import Scope
    from pipe.store import Token

HOST = "127.0.0.1"


class FakeTokens:
    """Lets everybody in by their name: ``token-alice`` is alice, and so is the code ``alice``."""

    def __init__(self) -> None:
        self.here: list[Caller] = []
        self.seen: list[tuple[str, str, str | None]] = []
        self.cookies: dict[str, str] = {}
        self.codes: set[str] = set()
        self.links: dict[str, Token] = {}
        self.scope: Scope | None = None  # of all tokens
        self.token = ""  # the ID of all
        self.until: float | None = None  # when all end

    async def admit(self, text: str, address: str, user: str | None = None) -> Caller:
        """Let in whoever says who it is."""
        self.seen.append((text, address, user))
        word, _, name = text.partition("-")
        if word != "token" or not name or (user is not None and user != name):
            raise AccessDenied("access denied: no such token")
        caller = Caller(
            name,
            fingerprint(name),
            name == "root",
            lent=True,
            scope=self.scope,
            until=self.until,
            token=self.token,
        )
        self.here.append(caller)
        return caller

    async def admit_session(self, text: str, address: str) -> Caller:
        """Let in whoever has a cookie that was made here."""
        name = self.cookies.get(text)
        if name is None:
            raise AccessDenied("access denied: you are not logged in any more: log in again")
        return await self.admit(f"token-{name}", address)

    async def look_at_code(self, text: str) -> Token:
        """A code, which works once."""
        if text in self.codes:
            raise TokenRefused("this address was used already: make another one", Refusal.USED_UP)
        return tickets.code(text)

    async def look_at_link(self, text: str) -> Token:
        """One that was put here."""
        found = self.links.get(text)
        if found is None:
            raise TokenRefused("no such link: was it copied in full?", Refusal.UNKNOWN)
        if found.uses_left == 0:
            raise TokenRefused("this link was used as often as it may be", Refusal.USED_UP)
        return found

    async def admit_link(self, text: str, address: str) -> Caller:
        """Let in whoever has a link, once."""
        found = await self.look_at_link(text)
        self.links[text] = dataclasses.replace(found, uses_left=0)
        caller = dataclasses.replace(
            await self.admit(f"token-{found.user}", address), scope=found.scope
        )
        self.here[-1] = caller
        return caller

    async def redeem(self, text: str, address: str) -> tuple[str, Token]:  # noqa: ARG002
        """Make a cookie of a code."""
        code = await self.look_at_code(text)
        self.codes.add(text)
        cookie = f"pts_{len(self.codes)}"
        self.cookies[cookie] = code.user
        return cookie, code

    async def log_out(self, text: str, address: str) -> None:
        """Take a cookie back."""
        self.leave(await self.admit_session(text, address))
        del self.cookies[text]

    def leave(self, caller: Caller) -> None:
        """Somebody has gone."""
        self.here = [one for one in self.here if one is not caller]


class Response(NamedTuple):
    """What came back, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever it is
        """The body, read."""
        return json.loads(self.body)


@dataclass
class Conn:
    """A client's connection, spoken to by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    left: list[bytes] = field(default_factory=list)

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read a status line and headers."""
        async with asyncio.timeout(DEADLINE):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            if name:
                headers[name.lower()] = value
        return int(first.split()[1]), headers

    async def response(self, *, head_only: bool = False) -> Response:
        """Read a response to its end, or to where it breaks off."""
        status, headers = await self.head()
        if head_only or status in {204, 304}:
            return Response(status, headers, b"", whole=True)
        async with asyncio.timeout(DEADLINE):
            try:
                body, whole = await self._body(headers)
            except OSError:
                return Response(status, headers, b"".join(self.left), whole=False)
        return Response(status, headers, body, whole)

    async def _body(self, headers: dict[str, str]) -> tuple[bytes, bool]:
        if headers.get("transfer-encoding") == "chunked":
            chunks = []
            while chunk := await self.chunk():
                chunks.append(chunk)
            return b"".join(chunks), chunk is not None
        if "content-length" in headers:
            try:
                return await self.reader.readexactly(int(headers["content-length"])), True
            except asyncio.IncompleteReadError as error:
                return error.partial, False
        return await self.reader.read(), True

    async def chunk(self) -> bytes | None:
        """Read one chunk; empty: the last one; None: there is none."""
        async with asyncio.timeout(DEADLINE):
            line = await self.reader.readline()
            if not line:
                return None
            size = int(line, 16)
            try:
                data = await self.reader.readexactly(size + 2)
            except asyncio.IncompleteReadError:
                return None
            return data[:-2]

    async def wait_closed_by_server(self) -> bytes:
        """Read whatever comes until the server closes."""
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(OSError):
                return await self.reader.read()
        return b""

    def close(self) -> None:
        """Hang up."""
        self.writer.close()

    def reset(self) -> None:
        """Hang up rudely."""
        self.writer.transport.abort()


class Served:
    """A server of HTTP and its clients."""

    def __init__(self, service: Service, server: WebServer, tokens: FakeTokens) -> None:
        self.service = service
        self.server = server
        self.tokens = tokens
        self.people = People(service)
        self._conns: list[Conn] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    @property
    def url(self) -> str:
        """The same as a URL."""
        return f"http://{HOST}:{self.port}"

    async def connect(self) -> Conn:
        """Open a connection."""
        conn = Conn(*await asyncio.open_connection(HOST, self.port))
        self._conns.append(conn)
        return conn

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        user: str | None = "alice",
        version: str = "1.1",
        headers: dict[str, str] | None = None,
    ) -> Conn:
        """Send a request, and leave it to the test to read the answer."""
        conn = await self.connect()
        await conn.send(request_head(method, path, len(body), user, version, headers) + body)
        return conn

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        user: str | None = "alice",
        version: str = "1.1",
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request and read the answer."""
        conn = await self.request(method, path, body, user=user, version=version, headers=headers)
        return await conn.response(head_only=method == "HEAD")

    async def until(self, true: Callable[[], object], what: str) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(DEADLINE):
            while not true():  # noqa: ASYNC110 - of whatever has no event
                await asyncio.sleep(0.005)
        assert true(), what

    async def wait_members(self, count: int) -> None:
        """Wait until so many are on topics."""
        await self.until(lambda: len(self.members()) == count, f"{count} members")

    def members(self) -> list[Any]:
        """All that are on a topic."""
        return [one for one in self.service.sessions if one.member and one.member.joined]

    def close_clients(self) -> None:
        """Hang up, all of them."""
        for conn in self._conns:
            conn.close()


def request_head(
    method: str,
    path: str,
    length: int = 0,
    user: str | None = "alice",
    version: str = "1.1",
    headers: dict[str, str] | None = None,
) -> bytes:
    """Write the head of a request."""
    lines = [f"{method} {path} HTTP/{version}", "Host: pipe.test"]
    if user:
        lines.append(f"Authorization: Bearer token-{user}")
    found = headers or {}
    if method in {"PUT", "POST", "DELETE"} and "Transfer-Encoding" not in found:
        found = {"Content-Length": str(length), **found}
    lines += [f"{name}: {value}" for name, value in found.items()]
    return "\r\n".join((*lines, "", "")).encode()


@contextlib.asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:  # noqa: ANN401 - of any type
    """Serve, and check afterwards that nobody is left behind."""
    async with await Store.open("sqlite://") as store:
        service = Service(
            Settings(public_host="example.org", web_port=free_port(), **settings), store
        )
        service.port = 2222
        await service.guard.start()
        tokens = FakeTokens()
        server = WebServer(service, tokens)
        await server.start()
        served = Served(service, server, tokens)
        try:
            yield served
            served.close_clients()
            await served.until(lambda: not service.sessions, "sessions are left")
            await served.until(lambda: not tokens.here, "callers are left")
            await served.until(lambda: not len(server.parts.door), "connections are left")
            assert not len(server.parts.hangups)
            assert not service.router.names()
            assert service.gate.open == 0
            assert service.gate.waiting == 0
            assert not server.parts.offers
        finally:
            server.stop_accepting()
            await server.close()
            await service.monitors.close()
            await service.guard.close()
