"""A stand-in for the server: the page's own files, and an API that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSMsgType, web

from pipe.errors import Refusal, TokenRefused
from pipe.web.origin import Site
from pipe.web.pages import Pages
from tests.web import tickets

if TYPE_CHECKING:
    from pipe.errors import AccessDenied
    from pipe.store import Token

HOST: Final = "127.0.0.1"

COOKIE: Final = "pts_someone"

CODE: Final = "a" * 27
LINK: Final = "b" * 27

HOOK_URL: Final = "https://pipe.example.org/hook/k3vq7w2nh5ra"
SECRET: Final = "whsec_made_up"

ANSWERS: Final[dict[str, dict[str, str]]] = {
    "hooks": {"id": "k3vq7w2nh5ra", "url": HOOK_URL, "secret": SECRET},
    "hooks/rotate": {"id": "k3vq7w2nh5ra", "url": HOOK_URL, "secret": SECRET},
    "hooks/test": {"message": "published a test event on alice/deploys: 1 reader got it"},
    "webhooks": {"secret": SECRET},
    "webhooks/test": {"message": "answered 200 after 0.03 seconds"},
    "monitors": {"message": "watching alice/nightly"},
}
"""What some routes answer to a change."""


def topic(name: str, **facts: Any) -> dict[str, object]:  # noqa: ANN401
    """One line of ``ls --json``."""
    return {
        "topic": name,
        "publishers": 0,
        "subscribers": 0,
        "pipes": 0,
        "waiting": 0,
        "clogged": 0,
        "clogged_seconds": None,
        "in_bytes_per_second": 0,
        "out_bytes_per_second": 0,
        "in_bytes": 0,
        "out_bytes": 0,
        **facts,
    }


def hook(number: str, target: str, kind: str, **facts: Any) -> dict[str, object]:  # noqa: ANN401
    """One line of ``hooks --json``."""
    return {
        "id": number,
        "topic": target,
        "kind": kind,
        "name": "",
        "hold": 0.0,
        "created": 1.79e9,
        "used": None,
        "deliveries": [],
        **facts,
    }


def delivery(time: float, result: str, **facts: Any) -> dict[str, object]:  # noqa: ANN401
    """What came of one delivery."""
    return {
        "time": time,
        "result": result,
        "size": 812,
        "events": 0,
        "readers": 0,
        "detail": "",
        "times": 1,
        **facts,
    }


def webhook(number: str, target: str, url: str, **facts: Any) -> dict[str, object]:  # noqa: ANN401
    """One line of ``webhooks --json``."""
    return {
        "id": number,
        "topic": target,
        "url": url,
        "frame": "none",
        "name": "",
        "state": "active",
        "created": 1.79e9,
        "succeeded": None,
        "failing_since": None,
        "problem": None,
        "waiting": 0,
        "dropped": 0,
        "recent": [],
        **facts,
    }


def session(user: str, mode: str, **facts: Any) -> dict[str, object]:  # noqa: ANN401
    """One member in the JSON of ``stat``."""
    return {
        "user": user,
        "mode": mode,
        "address": "192.0.2.7",
        "in_bytes": 0,
        "out_bytes": 0,
        "in_bytes_per_second": 0,
        "out_bytes_per_second": 0,
        "waiting_for": 0,
        "unfinished_readers": 0,
        "held_up": False,
        "clogged": False,
        "clogged_seconds": None,
        **facts,
    }


def monitor(target: str, state: str, reason: str, **facts: Any) -> dict[str, object]:  # noqa: ANN401
    """One line of ``monitors --json``."""
    return {
        "topic": target,
        "state": state,
        "since": 1.79e9,
        "last_seen": None,
        "reason": reason,
        "every": 86400.0,
        "grace": 8640.0,
        "on": "bytes",
        "min_bytes": None,
        "min_rate": None,
        "remind": None,
        "alert": "alice/alerts",
        "created": 1.79e9,
        "uptime": {"24h": 1.0, "7d": 0.99971, "30d": 0.98, "90d": None},
        "days": [None] * 60 + [1.0] * 20 + [0.93, 0.2] + [1.0] * 8,
        **facts,
    }


@dataclass
class StandIn:
    """What the server says, and what it was asked."""

    topics: list[dict[str, object]] = field(default_factory=list)
    tokens: list[dict[str, object]] = field(default_factory=list)
    grants: list[dict[str, object]] = field(default_factory=list)
    keys: list[dict[str, object]] = field(default_factory=list)
    hooks: list[dict[str, object]] = field(default_factory=list)
    webhooks: list[dict[str, object]] = field(default_factory=list)
    monitors: list[dict[str, object]] = field(default_factory=list)
    sessions: list[dict[str, object]] = field(default_factory=list)
    unseen: int = 0
    """Members of a topic beside those that `sessions` tells of."""
    stream: list[bytes] = field(default_factory=list)
    """What a reader gets."""
    logs: list[bytes] = field(default_factory=list)
    """What a follower of log lines gets, before it waits for more."""
    breaks: bool = False
    """Whether the stream ends without its last chunk."""
    received: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    logged_in: bool = True
    url: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    followed: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: somebody follows the list; somebody did."""
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: publishers are read."""
    socket: web.WebSocketResponse | None = None
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    async def look_at_code(self, text: str) -> Token:
        """A code, in place of the server's."""
        if text != CODE:
            raise TokenRefused("no such login: was the address copied in full?", Refusal.UNKNOWN)
        return tickets.code("alice")

    async def look_at_link(self, text: str) -> Token:
        """A link that reads, or writes if its secret ends so."""
        if text not in {LINK, LINK + "w"}:
            raise TokenRefused("no such link: was it copied in full?", Refusal.UNKNOWN)
        return tickets.link("alice/report", writes=text != LINK)

    async def redeem(self, text: str, _address: str) -> tuple[str, Token]:
        """A cookie for a code."""
        code = await self.look_at_code(text)
        self.logged_in = True
        return COOKIE, code

    def refused(self, _request: web.Request, error: AccessDenied) -> None:
        """Note who was let in nowhere."""
        self.refusals.append(error.message)

    async def log_out(self, _cookie: str, _address: str) -> None:
        """End the session."""
        self.logged_in = False

    def application(self, url: str) -> web.Application:
        """All routes."""
        self.url = url
        site = Site(url)
        pages = Pages(site, "ssh -p 2222 pipe.example.org", self, lambda _: HOST, self.refused)
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                *pages.routes(),
                web.get("/api/whoami", self._whoami),
                web.get("/api/topics", self._topics),
                web.get("/api/topics/{topic:.+}", self._explain),
                web.get("/api/stat/{topic:.+}", self._stat),
                web.get("/api/{list:tokens|grants|keys|hooks|webhooks|monitors}", self._list),
                web.get("/api/logs", self._logs),
                web.route("*", "/api/{what:.+}", self._act),
                web.get("/topic/{topic:.+}", self._read),
                web.get(f"/l/{LINK}/raw", self._read),
                web.put("/topic/{topic:.+}", self._publish),
                web.put(f"/l/{LINK}w/raw", self._publish),
                web.get("/pipe/{topic:.+}", self._pipe),
            ]
        )
        return app

    async def _whoami(self, _request: web.Request) -> web.Response:
        if not self.logged_in:
            return web.json_response(
                {"outcome": "denied", "status": 77, "message": "access denied: who is it?"},
                status=401,
            )
        return web.json_response({"user": "alice"})

    async def _topics(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                self.changed.clear()
                await response.write(f"data: {json.dumps(self.topics)}\n\n".encode())
                self.followed.set()
                await self.changed.wait()
        finally:
            self.left.set()

    async def _explain(self, request: web.Request) -> web.Response:
        right = {"allowed": True, "rule": "owner", "until": None}
        return web.json_response(
            {
                "topic": request.match_info["topic"],
                "read": right,
                "write": right,
                "members": len(self.sessions),
                "sessions": self.sessions,
            }
        )

    async def _stat(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "topic": request.match_info["topic"],
                "members": len(self.sessions) + self.unseen,
                "sessions": self.sessions,
            }
        )

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response(getattr(self, request.match_info["list"]))

    async def _act(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        what = request.match_info["what"]
        self.asked.append((request.method, what, body))
        if what == "links":
            return web.json_response(
                {"url": f"{self.url}/l/{LINK}", "qr": _PICTURE, "id": "abc"}, status=201
            )
        if what == "tokens":
            return web.json_response({"id": "abc", "token": "ptk_abc_secret"}, status=201)
        if what in ANSWERS:
            return web.json_response(ANSWERS[what])
        return web.Response(status=204)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(("GET", request.path_qs, None))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for chunk in self.logs:
            await response.write(chunk)
        await asyncio.Event().wait()
        return response

    async def _read(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(("GET", request.path_qs, None))
        response = web.StreamResponse(
            headers={"Content-Type": "text/plain", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        for chunk in self.stream:
            await response.write(chunk)
        if self.breaks:
            assert request.transport
            request.transport.abort()
        return response

    async def _publish(self, request: web.Request) -> web.Response:
        await self.reads.wait()
        body = await request.read()
        self.received[request.path_qs] = body
        self.asked.append(("PUT", request.path_qs, request.headers.get("Content-Disposition")))
        return web.json_response({"bytes": len(body), "subscribers": 1, "left_early": 0})

    async def _pipe(self, request: web.Request) -> web.StreamResponse:
        self.socket = web.WebSocketResponse()
        await self.socket.prepare(request)
        self.joined.set()
        async for message in self.socket:
            if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                self.asked.append(("WS", request.path_qs, message.data))
        return self.socket


_PICTURE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">'
    + '<path d="M0 0h2v2H0zM2 2h2v2H2z"/></svg>'
)
