"""``/api/…``: what the commands print with ``--json``, and what changes grants.

Each is the command over SSH, asked in another way: same rights, same words, same limits.
"""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING

from aiohttp import web

from pipe.errors import Outcome, UsageError
from pipe.language.account_requests import GrantAccess, ListGrants, ListKeys, RevokeAccess
from pipe.language.flags import read_words
from pipe.language.hook_requests import AddHook, ListHooks, RemoveHook, RotateHook, TestHook
from pipe.language.monitor_requests import (
    AddMonitor,
    ListMonitors,
    PauseMonitor,
    RemoveMonitor,
    ResumeMonitor,
    ShowFeeds,
    ShowUptime,
)
from pipe.language.past import Offset
from pipe.language.progress_requests import Stat, Top
from pipe.language.requests import COMMANDS, Explain, List, WhoAmI
from pipe.language.token_requests import AddToken, ListTokens, MakeLink, RemoveToken
from pipe.language.webhook_requests import (
    AddWebhook,
    ListWebhooks,
    RemoveWebhook,
    ResumeWebhook,
    TestWebhook,
)
from pipe.web.calls import CALLS, Calls
from pipe.web.logs import Shipping, serve
from pipe.web.logs import read as read_logs
from pipe.web.session import open_exchange
from pipe.web.statuses import OUTCOME
from pipe.web.streams.options import switch, topic_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pipe.language.requests import Request

MAX_BODY_BYTES = 64 * 1024
"""JSON that is longer is no request of ours."""

Change = (
    GrantAccess
    | RevokeAccess
    | AddToken
    | RemoveToken
    | MakeLink
    | AddHook
    | RemoveHook
    | RotateHook
    | TestHook
    | AddWebhook
    | RemoveWebhook
    | ResumeWebhook
    | TestWebhook
    | AddMonitor
    | RemoveMonitor
    | PauseMonitor
    | ResumeMonitor
)

ROWS = (
    List | ListKeys | ListGrants | ListTokens | ListHooks | ListWebhooks | ListMonitors | ShowUptime
)
"""Those whose JSON is one object per line."""


def add_routes(app: web.Application) -> None:
    """Serve all of it."""
    app[CALLS] = Calls()
    gets: dict[str, Callable[[web.Request], Request]] = {
        "/api/whoami": lambda _: WhoAmI(json=True),
        "/api/keys": lambda _: ListKeys(json=True),
        "/api/grants": lambda _: ListGrants(json=True),
        "/api/tokens": lambda _: ListTokens(json=True),
        "/api/hooks": lambda _: ListHooks(json=True),
        "/api/webhooks": lambda _: ListWebhooks(json=True),
        "/api/monitors": lambda _: ListMonitors(json=True),
        "/api/monitors/feed": lambda _: ShowFeeds(json=True),
        "/api/uptime": _read_uptime,
        "/api/offset/{topic:.+}": lambda request: Offset(topic_in(request)),
        "/api/stat/{topic:.+}": lambda request: Stat(topic_in(request), json=True),
        "/api/topics/{topic:.+}": lambda request: Explain(topic_in(request), json=True),
    }
    app.router.add_get("/api/topics", topics, allow_head=False)
    app.router.add_get("/api/logs", read_logs, allow_head=False)
    shipping = Shipping()
    app.router.add_post("/api/logs", shipping.take)
    app.router.add_post("/v1/logs", shipping.take_otlp)
    for path, make in gets.items():
        app.router.add_get(path, _answering(make), allow_head=False)
    changes: dict[tuple[str, str], type[Change]] = {
        ("POST", "/api/grants"): GrantAccess,
        ("DELETE", "/api/grants"): RevokeAccess,
        ("POST", "/api/tokens"): AddToken,
        ("DELETE", "/api/tokens"): RemoveToken,
        ("POST", "/api/links"): MakeLink,
        ("POST", "/api/hooks"): AddHook,
        ("DELETE", "/api/hooks"): RemoveHook,
        ("POST", "/api/hooks/rotate"): RotateHook,
        ("POST", "/api/hooks/test"): TestHook,
        ("POST", "/api/webhooks"): AddWebhook,
        ("DELETE", "/api/webhooks"): RemoveWebhook,
        ("POST", "/api/webhooks/test"): TestWebhook,
        ("POST", "/api/webhooks/resume"): ResumeWebhook,
        ("POST", "/api/monitors"): AddMonitor,
        ("DELETE", "/api/monitors"): RemoveMonitor,
        ("POST", "/api/monitors/pause"): PauseMonitor,
        ("POST", "/api/monitors/resume"): ResumeMonitor,
    }
    app.router.add_post(
        "/api/monitors/feed", _answering(lambda _: ShowFeeds(renew=True, json=True))
    )
    for (method, path), kind in changes.items():
        app.router.add_route(method, path, _changing(kind))


async def topics(request: web.Request) -> web.StreamResponse:
    """``GET /api/topics``: the list, once or again and again."""
    pattern = request.query.get("pattern")
    if not switch(request.query.get("follow", "false")):
        return await _answer(request, List(pattern, json=True))
    return await serve(request, Top(pattern, json=True), sse=True)


def _rows(text: str) -> list[object]:
    return [json.loads(line) for line in text.splitlines()]


def _answering(
    make: Callable[[web.Request], Request],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await _answer(request, make(request))

    return handle


def _changing(kind: type[Change]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answer to JSON with a command's arguments and flags, by their names."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _answer(request, await _read_body(request, kind))

    return handle


def _read_uptime(request: web.Request) -> ShowUptime:
    """Read a query as the flags of the command.

    Raises:
        UsageError: they are none.
    """
    spec = next(command for command in COMMANDS if command.request is ShowUptime)
    query = dict(request.query)
    topic = query.pop("topic", None)
    words = [*(f"--{name}={value}" for name, value in query.items()), "--json", "--"]
    values = read_words(spec, words if topic is None else [*words, topic])
    build: Callable[..., ShowUptime] = ShowUptime
    return build(**(values or {}))


async def _read_body(request: web.Request, kind: type[Change]) -> Change:
    """Read a JSON object as the arguments and flags of a command.

    Raises:
        UsageError: it is none, or they are none.
    """
    spec = next(command for command in COMMANDS if command.request is kind)
    body = await request.content.read(MAX_BODY_BYTES + 1)
    while len(body) <= MAX_BODY_BYTES and (more := await request.content.read(MAX_BODY_BYTES)):
        body += more
    if len(body) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(body))
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise UsageError(f"the body is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UsageError("the body is no JSON object")
    arguments: list[str] = [argument.placeholder.lower() for argument in spec.arguments]
    words: list[str] = [word for name in arguments for word in _words(name, fields.pop(name, []))]
    flags: set[str] = {flag.spellings.split()[-1].lstrip("-") for flag in spec.flags}
    options: list[str] = []
    for name, value in fields.items():
        if name not in flags:
            known = ", ".join((*arguments, *sorted(flags)))
            raise UsageError(f"unknown field {name!r}: there are {known}")
        options += (f"--{name}={word}" for word in _words(name, value))
    values = read_words(spec, [*options, "--", *words])
    build: Callable[..., Change] = kind
    return build(**(values or {}))


def _words(name: str, value: object) -> Iterator[str]:
    """The words of a field's value."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool):
            yield str(one).lower()
        elif isinstance(one, str):
            yield one
        elif one is not None:
            raise UsageError(f"the field {name!r} takes text, true or false")


async def _answer(request: web.Request, wanted: Request) -> web.StreamResponse:
    """Run a command, and answer with what it prints."""
    answer = await _ask(request, wanted)
    headers = {OUTCOME: Outcome.DONE.label, "Cache-Control": "no-store"}
    if isinstance(wanted, AddToken):
        return web.json_response({"token": answer.strip()}, status=201, headers=headers)
    if isinstance(wanted, AddHook | RotateHook):
        url, *secret = answer.split()
        number = url.partition("/hook/")[2].partition("/")[0]
        made = {"id": number, "url": url, "secret": secret[0] if secret else None}
        return web.json_response(made, status=201, headers=headers)
    if isinstance(wanted, AddWebhook):
        return web.json_response({"secret": answer.strip()}, status=201, headers=headers)
    if isinstance(wanted, MakeLink):
        url = answer.split()[0]
        return web.json_response({"url": url, "qr": _picture(url)}, status=201, headers=headers)
    if isinstance(wanted, Offset):
        return web.json_response({"offset": int(answer)}, headers=headers)
    if not getattr(wanted, "json", False):
        return web.json_response({"message": answer.rstrip("\n")}, headers=headers)
    if isinstance(wanted, ROWS):
        return web.json_response(_rows(answer), headers=headers)
    return web.Response(text=answer, content_type="application/json", headers=headers)


def _picture(text: str) -> str:
    """Draw a QR code as SVG."""
    import segno  # it takes 10 MiB of memory, and is seldom needed

    drawn = io.BytesIO()
    segno.make_qr(text, error="m").save(drawn, kind="svg", border=1, xmldecl=False)
    return drawn.getvalue().decode()


async def _ask(request: web.Request, wanted: Request) -> str:
    """Run a command, and return what it prints.

    Raises:
        PipeError: it fails, and the error says why.
    """
    exchange = await open_exchange(request, wanted)
    try:
        loop = asyncio.get_running_loop()
        request.app[CALLS].take(exchange.visitor.caller.user, loop.time())
        (await exchange.wait_end()).check()
        return exchange.answered
    finally:
        exchange.leave()
