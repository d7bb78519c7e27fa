"""The proxy before a registry that does what the test wants."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from pipe.metrics.registry import REGISTRY_EVENTS
from pipe.rights.scopes import Reach, Right, Scope
from pipe.web.registry.proxy import MAX_TRANSFERS_PER_USER
from tests.e2e.processes import DEADLINE
from tests.e2e.server import free_port
from tests.web.served import HOST, Served, request_head, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

DIGEST = "sha256:" + "0a" * 32
MANIFEST = b'{"schemaVersion":2}'
MIB = 1 << 20


class FakeRegistry:
    """A registry: keeps what it is asked, and answers as told."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.response: dict[str, Any] = {"status": 200}
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://user:secret@{HOST}:{self.port}"

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Listen."""
        server = web.Server(self._handle)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, HOST, self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request)  # type: ignore[arg-type]
        if self.answer:
            return await self.answer(request)  # type: ignore[arg-type]
        self.bodies.append(await request.read())
        return web.Response(**self.response)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    """A registry that is there."""
    registry = FakeRegistry()
    async with registry.run():
        yield registry


@pytest.fixture
async def served(registry: FakeRegistry) -> AsyncIterator[Served]:
    """A server in front of it."""
    async with serving(registry_url=registry.url, buffer=64 * 1024) as served:
        await served.people.add("alice")
        await served.people.add("bob")
        yield served


def error_of(body: bytes) -> tuple[str, str]:
    """The code and the message of a refusal, as Docker reads them."""
    [error] = json.loads(body)["errors"]
    return error["code"], error["message"]


async def test_no_registry() -> None:
    """A server without one says so."""
    async with serving() as served:
        got = await served.ask("GET", "/v2/")
        assert got.status == 404
        assert "registry-url" in error_of(got.body)[1]


async def test_who_is_it(served: Served, registry: FakeRegistry) -> None:
    """Without a token clients are asked for a name and a password, and nothing else."""
    got = await served.ask("GET", "/v2/", user=None)
    assert got.status == 401
    assert got.headers["www-authenticate"].startswith("Basic ")
    assert "Bearer" not in got.headers["www-authenticate"]
    assert error_of(got.body)[0] == "UNAUTHORIZED"
    assert not registry.asked
    basic = base64.b64encode(b"alice:token-alice").decode()
    got = await served.ask("GET", "/v2/", user=None, headers={"Authorization": f"Basic {basic}"})
    assert got.status == 200


async def test_names(served: Served, registry: FakeRegistry) -> None:
    """A name without an owner goes on with one, and the query as it is."""
    await served.ask("GET", "/v2/alpine/tags/list?n=1&last=a%2Fb")
    await served.ask("GET", "/v2/alice/alpine/tags/list")
    assert [request.raw_path for request in registry.asked] == [
        "/v2/alice/alpine/tags/list?n=1&last=a%2Fb",
        "/v2/alice/alpine/tags/list",
    ]


async def test_headers(served: Served, registry: FakeRegistry) -> None:
    """What belongs to the protocol passes, as often as it comes; all else ends at the proxy."""
    registry.response["headers"] = {
        "Docker-Content-Digest": DIGEST,
        "Set-Cookie": "a=b",
        "Server": "nginx",
        "Keep-Alive": "timeout=1",
        "Access-Control-Allow-Origin": "*",
        "OCI-Filters-Applied": "x",
    }
    conn = await served.connect()
    extra = (
        b"Accept: application/a\r\nAccept: application/b\r\nCookie: pipe=x\r\nConnection: X-Hop\r\n"
        b"X-Hop: 1\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nTE: trailers\r\n\r\n"
    )
    await conn.send(request_head("GET", "/v2/alpine/manifests/latest")[:-2] + extra)
    got = await conn.response()
    [asked] = registry.asked
    assert asked.headers.getall("Accept") == ["application/a", "application/b"]
    basic = base64.b64encode(b"user:secret").decode()
    assert asked.headers["Authorization"] == f"Basic {basic}"
    assert asked.headers["Host"] == f"{HOST}:{registry.port}"
    assert {name.lower() for name in asked.headers} == {"accept", "authorization", "host"}
    assert got.headers["docker-content-digest"] == DIGEST
    assert got.headers["oci-filters-applied"] == "x"
    assert got.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert got.headers["server"] == "pipe"
    assert not {"set-cookie", "keep-alive", "access-control-allow-origin"} & got.headers.keys()


async def test_location(served: Served, registry: FakeRegistry) -> None:
    """An upload goes on under the client's own name for it."""
    registry.response = {
        "status": 202,
        "headers": {
            "Location": f"http://{HOST}:{registry.port}/v2/alice/alpine/blobs/uploads/u?_state=1"
        },
    }
    got = await served.ask("POST", "/v2/alpine/blobs/uploads/")
    assert got.status == 202
    assert got.headers["location"] == "/v2/alpine/blobs/uploads/u?_state=1"


async def test_head(served: Served, registry: FakeRegistry) -> None:
    """The length of what a HEAD asks about is told, without a body."""
    registry.response["body"] = MANIFEST
    got = await served.ask("HEAD", "/v2/alpine/manifests/latest")
    assert got.status == 200
    assert got.headers["content-length"] == str(len(MANIFEST))


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/_catalog", 404, "NAME_UNKNOWN"),
        ("/v2/alpine", 404, "NAME_UNKNOWN"),
        ("/v2/alpine/manifests/..%2f..%2fbob%2fx", 404, "NAME_UNKNOWN"),
        ("/v2/bob/app/manifests/latest", 403, "DENIED"),
        ("/v2/public/app/manifests/latest", 403, "DENIED"),
        ("/v2/admin/app/manifests/latest", 400, "NAME_INVALID"),
    ],
)
async def test_refusals(
    served: Served, registry: FakeRegistry, path: str, status: int, code: str
) -> None:
    """What is not the caller's does not reach the registry, and clients can show why."""
    got = await served.ask("GET", path)
    assert got.status == status
    assert error_of(got.body)[0] == code
    assert not registry.asked


@pytest.mark.parametrize(
    ("operation", "allowed"),
    [("--read", {"GET", "HEAD"}), ("--write", {"HEAD", "PUT", "DELETE"})],
)
async def test_grants(served: Served, operation: str, allowed: set[str]) -> None:
    """To read is to pull and to write is to push, which asks what is there already."""
    await served.people.run("bob", f"grant app alice {operation}")
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        got = await served.ask(method, "/v2/bob/app/manifests/latest")
        assert (got.status == 200) is (method in allowed), method


async def test_mounts(served: Served, registry: FakeRegistry) -> None:
    """A blob is taken only from where the caller may pull."""
    await served.ask("POST", f"/v2/alpine/blobs/uploads/?mount={DIGEST}&from=base")
    await served.ask("POST", f"/v2/alpine/blobs/uploads/?mount={DIGEST}&from=bob/app")
    first, second = (request.query for request in registry.asked)
    assert first == {"mount": DIGEST, "from": "alice/base"}
    assert second == {}


async def test_tokens(served: Served) -> None:
    """A token needs the right to the registry, and reaches no image but those of its names."""
    lists = {"reads": Reach.parse(["app"], owner="alice")}
    for rights, path, status in (
        (frozenset(), "app", 403),
        (frozenset({Right.REGISTRY}), "app", 200),
        (frozenset({Right.REGISTRY}), "other", 403),
    ):
        served.tokens.scope = Scope(rights=rights, **lists)
        got = await served.ask("GET", f"/v2/{path}/manifests/latest")
        assert got.status == status, (rights, path)
    got = await served.ask("PUT", "/v2/app/manifests/latest", MANIFEST)
    assert error_of(got.body) == (
        "DENIED",
        "access denied: your token does not reach alice/app to write",
    )


async def test_a_push_is_an_event(served: Served, registry: FakeRegistry) -> None:
    """Whoever reads the tag's topic is told once, and then the stream ends."""
    registry.response = {"status": 201, "headers": {"Docker-Content-Digest": DIGEST}}
    reader = await served.request("GET", "/topic/alpine:latest")
    await served.wait_members(1)
    for path in ("alpine/manifests/latest", f"alpine/manifests/{DIGEST}"):
        assert (await served.ask("PUT", f"/v2/{path}", MANIFEST)).status == 201
    event = (await reader.response()).json
    assert event | {"time": "", "id": ""} == {
        "time": "",
        "event": "push",
        "repository": "alice/alpine",
        "tag": "latest",
        "digest": DIGEST,
        "by": "alice",
        "source": "registry",
        "id": "",
    }
    assert registry.bodies == [MANIFEST, MANIFEST]


async def test_no_event(served: Served, registry: FakeRegistry) -> None:
    """Nothing is told of what was refused, told already, or has a tag that no topic can have."""

    def count(result: str) -> float:
        registry = served.service.metrics.registry
        return registry.get_sample_value("pipe_registry_events_total", {"result": result}) or 0

    headers = {"Docker-Content-Digest": DIGEST}
    for status, tag, result in (
        (400, "v1", None),
        (201, "v1", "published"),
        (201, "v1", "repeated"),
        (201, "x" * 100, "unnamed"),
    ):
        registry.response = {"status": status, "headers": headers}
        before = {name: count(name) for name in REGISTRY_EVENTS}
        await served.ask("PUT", f"/v2/alpine/manifests/{tag}", MANIFEST)
        told = {name for name in REGISTRY_EVENTS if count(name) > before[name]}
        assert told == ({result} if result else set())


async def test_a_registry_that_is_down() -> None:
    """The client is told, and once the registry is back all is as before."""
    registry = FakeRegistry()
    async with serving(registry_url=registry.url) as other:
        got = await other.ask("GET", "/v2/")
        assert got.status == 502
        assert "does not answer" in error_of(got.body)[1]
        async with registry.run():
            assert (await other.ask("GET", "/v2/")).status == 200


async def test_a_registry_that_does_not_let_us_in(served: Served, registry: FakeRegistry) -> None:
    """Its challenge is for this server, and no user could answer it."""
    registry.response = {"status": 401, "headers": {"WWW-Authenticate": "Bearer realm=x"}}
    got = await served.ask("GET", "/v2/")
    assert got.status == 502
    assert "www-authenticate" not in got.headers


async def test_a_layer_that_breaks_off(served: Served, registry: FakeRegistry) -> None:
    """A client sees that half a layer is not the whole one."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport
        request.transport.close()
        return response

    registry.answer = answer
    got = await served.ask("GET", f"/v2/alpine/blobs/{DIGEST}")
    assert got.status == 200
    assert not got.whole


async def test_an_upload_whose_client_vanishes(served: Served, registry: FakeRegistry) -> None:
    """The registry does not take the half for the whole, and nothing stays open."""
    broken = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            await request.read()
        except OSError:
            broken.set()
        return web.Response()

    registry.answer = answer
    headers = {"Content-Length": "1000"}
    conn = await served.request("PATCH", "/v2/alpine/blobs/uploads/u", b"half", headers=headers)
    await served.until(lambda: registry.asked, "the registry is asked")
    conn.reset()
    async with asyncio.timeout(DEADLINE):
        await broken.wait()


async def test_expectations(served: Served, registry: FakeRegistry) -> None:
    """A body is asked for once its client may send it, and not before."""
    headers = {"Expect": "100-continue"}
    conn = await served.connect()
    head = request_head("PUT", "/v2/alpine/manifests/latest", len(MANIFEST), headers=headers)
    await conn.send(head)
    assert (await conn.head())[0] == 100
    await conn.send(MANIFEST)
    assert (await conn.response()).status == 200
    assert registry.bodies == [MANIFEST]
    refused = await served.request("PUT", "/v2/bob/app/manifests/x", headers=headers)
    assert (await refused.head())[0] == 403


async def test_backpressure(served: Served, registry: FakeRegistry) -> None:
    """A registry that takes its time holds the client back, and one that is fast waits for it."""
    go_on = asyncio.Event()
    sizes: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        size = 0
        async for data in request.content.iter_any():
            size += len(data)
        sizes.append(size)
        return web.Response(status=202)

    registry.answer = answer
    headers = {"Transfer-Encoding": "chunked"}
    conn = await served.request("PATCH", "/v2/alpine/blobs/uploads/u", headers=headers)
    conn.writer.write(b"%x\r\n" % (32 * MIB) + bytes(32 * MIB) + b"\r\n0\r\n\r\n")
    await served.until(lambda: registry.asked, "the registry is asked")
    [transfer] = served.service.sessions
    await served.until(lambda: not transfer._request.transport.is_reading(), "held back")  # type: ignore[attr-defined]  # noqa: SLF001
    go_on.set()
    assert (await conn.response()).status == 202
    assert sizes == [32 * MIB]


async def test_a_right_that_ends(served: Served, registry: FakeRegistry) -> None:
    """Whoever may no longer pull gets no more of a layer that is under way."""
    await served.people.run("bob", "grant app alice --read")
    hold = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        await hold.wait()
        return response

    registry.answer = answer
    conn = await served.request("GET", f"/v2/bob/app/blobs/{DIGEST}")
    assert (await conn.head())[0] == 200
    await served.people.run("bob", "revoke app alice")
    assert await conn.wait_closed_by_server() in {b"", b"half"}
    hold.set()


async def test_too_many_at_once(served: Served, registry: FakeRegistry) -> None:
    """One user does not take the registry from the others."""
    hold = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:  # noqa: ARG001
        await hold.wait()
        return web.Response()

    registry.answer = answer
    conns = [await served.request("GET", "/v2/") for _ in range(MAX_TRANSFERS_PER_USER)]
    await served.until(lambda: len(registry.asked) == MAX_TRANSFERS_PER_USER, "all are asked")
    got = await served.ask("GET", "/v2/")
    assert got.status == 429
    assert error_of(got.body)[0] == "TOOMANYREQUESTS"
    bobs = await served.request("GET", "/v2/", user="bob")
    hold.set()
    assert (await bobs.response()).status == 200
    for conn in conns:
        assert (await conn.response()).status == 200
