"""The proxy: who may have what of the registry, and the event that a push is.

    read  pull    GET and HEAD
    write push    POST, PATCH, PUT, DELETE, and a look at an upload or whether a blob is there

The rights are those of the topic with the repository's name.  A token needs the right ``registry``
besides.  Bodies pass in both directions a read at a time, as fast as the slower side takes them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp
import structlog
from aiohttp import web

from pipe.errors import AccessDenied, Outcome, PipeError, QuotaExceeded, UsageError
from pipe.events.dedupe import sight
from pipe.events.envelope import Event
from pipe.language.names import PUBLIC
from pipe.rights.grants import Operation
from pipe.rights.scopes import Right
from pipe.web.caller import admit
from pipe.web.parts import PARTS
from pipe.web.registry.addresses import (
    ROOT,
    Kind,
    Names,
    is_digest,
    map_mount,
    parse_path,
    repository_of,
)
from pipe.web.registry.answers import SAFE, VERSION, RegistryDown, answer_to
from pipe.web.registry.upstream import Upstream, headers_answered
from pipe.web.session import CONTINUE, reset_if_unframed
from pipe.web.statuses import NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse

    from pipe.language.names import TopicName
    from pipe.rights.access import Loss, Pass
    from pipe.rights.callers import Caller
    from pipe.web.caller import Visitor
    from pipe.web.parts import Web
    from pipe.web.registry.addresses import Address

log = structlog.get_logger()

MAX_TRANSFERS_PER_USER, MAX_TRANSFERS = 64, 512
"""Requests at once: each holds a descriptor, and some 512 KiB when both sides are slow.  Docker
makes a handful at once."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

NONE_TEXT = "this server has no container registry: its operator names one with registry-url"
DOWN_TEXT = "the registry behind this server does not answer: try again later"
REFUSED_TEXT = "the registry behind this server does not let it in: tell its operator"
CATALOG_TEXT = "nobody lists all repositories here: ask for one, as in skopeo list-tags"
RIGHT_TEXT = (
    "access denied: your token is not for the registry: make one with tokens add --registry"
)
PUBLIC_TEXT = "access denied: nobody owns public/, so no images are there: push to your own name"


class Registry:
    """The proxy for one registry.

    Args:
        url: where that is; None: there is none.
    """

    def __init__(self, url: str | None) -> None:
        self._upstream = Upstream(url) if url else None
        self._transfers: Counter[str] = Counter()
        self._down = False  # whether the log says so already

    def add_routes(self, app: web.Application) -> None:
        """Serve all of it."""
        for method in METHODS:
            app.router.add_route(method, "/v2", self.serve, expect_handler=_expect)
            app.router.add_route(method, "/v2/{rest:.*}", self.serve, expect_handler=_expect)

    async def close(self) -> None:
        """Close the connections to the registry."""
        if self._upstream:
            await self._upstream.close()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        try:
            if self._upstream is None:
                raise NotFound(NONE_TEXT)
            visitor = await admit(request)
            try:
                with _Place(self._transfers, visitor.caller.user, request):
                    return await self._serve(request, visitor, self._upstream)
            finally:
                visitor.leave()
        except PipeError as error:
            return answer_to(request, error)

    async def _serve(
        self, request: web.Request, visitor: Visitor, upstream: Upstream
    ) -> web.StreamResponse:
        caller = visitor.caller
        if caller.scope is not None and Right.REGISTRY not in caller.scope.rights:
            raise AccessDenied(RIGHT_TEXT)
        if request.path in {ROOT, ROOT.rstrip("/")}:
            transfer = Transfer(request, visitor, upstream, ROOT, "", None)
        elif request.path == f"{ROOT}_catalog":
            raise NotFound(CATALOG_TEXT)
        else:
            address = parse_path(request.path)
            if address is None:
                raise NotFound("the protocol of registries has no such address")
            repository = repository_of(address.name, caller.user)
            if repository.owner == PUBLIC:
                raise AccessDenied(PUBLIC_TEXT)
            service = request.app[PARTS].service
            if service.elsewhere and repository.owner != caller.user:
                # So who was granted it by way of another worker has it here too.
                await service.guard.catch_up()
            transfer = Transfer(
                request,
                visitor,
                upstream,
                address.path(str(repository)),
                self._query(request, caller, address),
                Names(upstream.base, address.name, str(repository)),
            )
            transfer.enter(repository, _operations(request.method, address))
            if request.method == "PUT" and address.tag:
                transfer.pushes = (repository, address.tag)
        try:
            response = await transfer.run()
        except RegistryDown as error:
            if not self._down:
                self._down = True
                log.warning("registry does not answer", reason=str(error.__cause__ or error))
            raise
        if self._down:
            self._down = False
            log.info("registry answers again")
        return response

    @staticmethod
    def _query(request: web.Request, caller: Caller, address: Address) -> str:
        query = request.rel_url.raw_query_string
        if request.method != "POST" or address.kind is not Kind.UPLOAD:
            return query
        access = request.app[PARTS].service.access

        def may_take(name: str) -> str | None:
            try:
                source = repository_of(name, caller.user)
            except UsageError:
                return None
            return str(source) if access.decide(caller, source, Operation.READ).allowed else None

        return map_mount(query, may_take)


async def _expect(request: web.Request) -> None:
    """``Expect: 100-continue`` is answered once the request may go on."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed


def _operations(method: str, address: Address) -> tuple[Operation, ...]:
    """What a request does, any of which is enough to be allowed."""
    if method not in {"GET", "HEAD"} or address.kind is Kind.UPLOAD:
        return (Operation.WRITE,)
    if method == "HEAD":
        return (Operation.READ, Operation.WRITE)  # who pushes asks what is there already
    return (Operation.READ,)


class _Place:
    """One of the requests that a user may have at once.

    Raises:
        QuotaExceeded: there are as many as may be.
    """

    def __init__(self, transfers: Counter[str], user: str, request: web.Request) -> None:
        self._transfers = transfers
        self._user = user
        if transfers[user] >= MAX_TRANSFERS_PER_USER or transfers.total() >= MAX_TRANSFERS:
            request.app[PARTS].service.metrics.refused.labels("transfers").inc()
            raise QuotaExceeded(
                f"too many requests for the registry: at most {MAX_TRANSFERS_PER_USER} of one user"
                f" and {MAX_TRANSFERS} of all at once",
                "transfers",
            )

    def __enter__(self) -> None:
        self._transfers[self._user] += 1

    def __exit__(self, *_: object) -> None:
        self._transfers[self._user] -= 1
        if not self._transfers[self._user]:
            del self._transfers[self._user]


class _Cut(PipeError):
    """The server ends a transfer."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text or outcome.text or outcome.label)
        self.outcome = outcome


class Transfer:
    """One request on its way to the registry, and the answer on its way back.

    It is a `pipe.rights.live.LiveSession`: a stop of the server waits for it, and whoever loses the
    right to it loses it in the middle.

    Args:
        request: the client's.
        visitor: who that is.
        upstream: the registry.
        path: what the registry is asked for.
        query: the same.
        names: maps addresses in the answer back; None where there are none.
    """

    member = None
    paused_seconds = 0.0
    follows = False
    abroad = None  # it is on no topic

    def __init__(
        self,
        request: web.Request,
        visitor: Visitor,
        upstream: Upstream,
        path: str,
        query: str,
        names: Names | None,
    ) -> None:
        self._request = request
        self._parts: Web = request.app[PARTS]
        self._upstream = upstream
        self._path, self._query = path, query
        self._names = names
        self.caller: Caller = visitor.caller
        self.address = visitor.address
        self.pushes: tuple[TopicName, str] | None = None
        self._pass: Pass | None = None
        self._work: asyncio.Task[web.StreamResponse] | None = None
        self._why_cut: PipeError | None = None
        self._unreadable = False
        self._response: web.StreamResponse | None = None

    def enter(self, repository: TopicName, operations: tuple[Operation, ...]) -> None:
        """Take the right to a repository, one of these.

        Raises:
            AccessDenied: the caller has none of them.
        """
        service = self._parts.service
        decide = service.access.decide
        chosen = next(
            (one for one in operations if decide(self.caller, repository, one).allowed),
            operations[0],
        )
        self._pass = service.access.enter(
            self.caller, repository, chosen, exists=repository in service.router, lost=self._lose
        )

    def _lose(self, loss: Loss) -> None:
        self.cut(
            Outcome.DENIED, f"access to {self._pass and self._pass.topic} has ended: {loss.value}"
        )

    # -- a live session ---------------------------------------------------------------------------

    def hand_over(self) -> None:
        """It has no stream that somebody could go on with."""

    def announce(self, text: str) -> None:
        """Nobody is there to read it."""

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End it now."""
        self._why_cut = _Cut(outcome, text)
        if self._work:
            self._work.cancel()

    # -- its life ---------------------------------------------------------------------------------

    async def run(self) -> web.StreamResponse:
        """Carry it.

        Raises:
            PipeError: it was cut, or the registry does not answer, and no answer has begun.
        """
        service = self._parts.service
        service.sessions[self] = None
        self._work = asyncio.get_running_loop().create_task(self._carry())
        try:
            return await self._work
        except asyncio.CancelledError:
            if self._why_cut is None:
                raise
            return self._break_off(self._why_cut)
        except (aiohttp.ClientError, TimeoutError) as error:
            if self._unreadable:
                return self._break_off(UsageError("the body cannot be read"))
            down = RegistryDown(DOWN_TEXT)
            down.__cause__ = error
            return self._break_off(down)
        finally:
            del service.sessions[self]
            if self._pass:
                service.access.release(self._pass)

    def _break_off(self, error: PipeError) -> web.StreamResponse:
        """End an answer that has begun so that its client knows that something is missing.

        Raises:
            PipeError: none has begun.
        """
        transport = self._request.transport
        if self._response is None:
            raise error
        if transport:
            reset_if_unframed(self._request, transport)
            transport.abort()
        return self._response

    async def _carry(self) -> web.StreamResponse:
        request = self._request
        if "Expect" in request.headers and request.transport:
            request.transport.write(CONTINUE)
        body = self._body() if request.body_exists else None
        async with self._upstream.ask(request, self._path, self._query, body) as answer:
            if answer.status == web.HTTPUnauthorized.status_code:
                raise RegistryDown(REFUSED_TEXT)
            if answer.status == web.HTTPCreated.status_code:
                # The client may go meanwhile: the image is there.
                await asyncio.shield(asyncio.ensure_future(self._tell(answer)))
            return await self._answer(answer)

    async def _body(self) -> AsyncIterator[bytes]:
        try:
            while data := await self._request.content.readany():
                yield data
        except web.RequestPayloadError:
            self._unreadable = True
            raise

    async def _answer(self, answer: ClientResponse) -> web.StreamResponse:
        request = self._request
        response = web.StreamResponse(status=answer.status, headers=self._headers(answer))
        if request.body_exists and not request.content.is_eof():
            response.force_close()  # it was not all wanted
        self._response = response
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response

    def _headers(self, answer: ClientResponse) -> list[tuple[str, str]]:
        headers = headers_answered(answer.headers)
        headers += SAFE.items()
        if "Docker-Distribution-Api-Version" not in answer.headers:
            headers += VERSION.items()
        location, link = answer.headers.get("Location"), answer.headers.get("Link")
        if location and self._names:
            elsewhere = answer.status in range(300, 400)
            location = self._names.map_location(location, elsewhere=elsewhere)
            headers.append(("Location", location))
        if link and self._names:
            headers.append(("Link", self._names.map_link(link)))
        return headers

    # -- the event --------------------------------------------------------------------------------

    async def _tell(self, answer: ClientResponse) -> None:
        """Tell of an image that has been pushed."""
        if self.pushes is None:
            return
        repository, tag = self.pushes
        digest = answer.headers.get("Docker-Content-Digest", "")
        event = Event(
            time=time.time(),
            repository=str(repository),
            tag=tag,
            digest=digest if is_digest(digest) else "",
            by=self.caller.user,
            source="registry",
            id=secrets.token_hex(16),
        )
        service, topic, pushed = self._parts.service, event.topic, sight(event)
        if topic is None:
            result = "unnamed"
        elif pushed and not await service.once.is_new(pushed):
            result = "repeated"
        else:
            told = service.announce_soon(topic, event.line())
            result = "published" if told else "crowded"
        service.metrics.registry_events.labels(result).inc()
        image = {"image": f"{repository}:{tag}"} if service.settings.log_topics else {}
        log.info(
            "image pushed", user=self.caller.user, address=self.address, result=result, **image
        )
