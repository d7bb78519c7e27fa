"""The page: its files, logging in and out, and what somebody sees who opens a link.

Everything is static but for a few words that are filled in. What a page shows comes from the API
and the streams, as for every other client. The Content-Security-Policy lets a page run our own
modules and nothing else; only the terminal's has a looser rule for styles, which xterm.js needs.
"""

from __future__ import annotations

import html
import string
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from aiohttp import web

from pipe import __version__
from pipe.errors import AccessDenied, Outcome, PipeError, Refusal, TokenRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipe.store import Token
    from pipe.web.origin import Site

STATIC: Final = Path(__file__).parent / "static"

TERMINAL_FILES: Final = ("vendor/xterm.mjs", "vendor/xterm.css", "vendor/addon-fit.mjs")
"""What the terminal needs beside our own; `make web` or the wheel's build brings it."""

TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain",
}
"""By the ends of names; not by the machine's list, which may call JavaScript anything."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'{styles}; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
POLICY: Final = _POLICY.format(styles="")
TERMINAL_POLICY: Final = _POLICY.format(styles=" 'unsafe-inline'")

HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": with that a form's Origin is "null", and it is not known as ours.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

ADDRESS_PATTERN: Final = "[a-z2-7]{1,64}"
"""What a code or the secret of a link looks like, in an address."""


class Tickets(Protocol):
    """Knows codes and links: `pipe.store.admission.Tokens`."""

    async def look_at_code(self, text: str) -> Token:
        """Whom a code would log in; raises PipeError."""

    async def look_at_link(self, text: str) -> Token:
        """What a link is for; raises PipeError."""

    async def redeem(self, text: str, address: str) -> tuple[str, Token]:
        """What the cookie holds that a code is exchanged for, and the code; raises PipeError."""

    async def log_out(self, text: str, address: str) -> None:
        """End the session whose cookie this is; raises PipeError."""


class Pages:
    """Serves the page.

    Args:
        site: where it is, as browsers know it.
        ssh: how a client reaches the server over SSH, without a user.
        tickets: knows codes and links.
        address_of: says from where a request comes.
        refused: is told what was shown and let nobody in.
        has_manual: whether there is documentation to link to.
    """

    def __init__(
        self,
        site: Site,
        ssh: str,
        tickets: Tickets,
        address_of: Callable[[web.Request], str],
        refused: Callable[[web.Request, AccessDenied], None],
        *,
        has_manual: bool = False,
    ) -> None:
        self._site = site
        self._tickets = tickets
        self._address_of = address_of
        self._refused = refused
        self._files = dict(find_files(STATIC))
        self._templates = {
            path.stem: string.Template(path.read_text(encoding="utf-8"))
            for path in STATIC.glob("*.html")
        }
        self._has_terminal = all(name in self._files for name in TERMINAL_FILES)
        self._common = {
            "ssh": ssh,
            "url": site.url,
            "version": __version__,
            "terminal": "yes" if self._has_terminal else "no",
            "manual": "" if has_manual else "hidden",
        }

    def routes(self) -> list[web.RouteDef]:
        """The routes, for an application's router."""
        return [
            web.get("/", self._index),
            web.get("/terminal", self._terminal),
            web.get("/static/{name:.+}", self._file),
            web.get(f"/login/{{code:{ADDRESS_PATTERN}}}", self._ask_to_log_in),
            web.post(f"/login/{{code:{ADDRESS_PATTERN}}}", self._log_in),
            web.post("/logout", self._leave),
            web.get(f"/l/{{secret:{ADDRESS_PATTERN}}}", self._link),
        ]

    async def _index(self, _request: web.Request) -> web.Response:
        return self._page("index")

    async def _terminal(self, _request: web.Request) -> web.Response:
        if not self._has_terminal:
            return self._message(
                "xterm.js is not installed",
                "This server runs from a checkout, which does not bring it. 'make web' there "
                "fetches it; after that the server has to be started again.",
                404,
            )
        return self._page("terminal", policy=TERMINAL_POLICY)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = self._files.get(request.match_info["name"])
        if found is None:
            return web.Response(status=404, text="no such file\n", headers=_headers(POLICY))
        path, content_type = found
        # Browsers ask each time whether it has changed, so that an upgrade is seen at once.
        headers = {**_headers(POLICY), "Content-Type": content_type, "Cache-Control": "no-cache"}
        return web.FileResponse(path, headers=headers)

    async def _ask_to_log_in(self, request: web.Request) -> web.Response:
        # Whatever looks ahead at addresses may open it: nothing is used up.
        try:
            code = await self._tickets.look_at_code(request.match_info["code"])
        except PipeError as error:
            return self._refusal(request, error)
        until = code.session_until or code.until
        return self._page("login", user=code.user, until=_date(until))

    async def _log_in(self, request: web.Request) -> web.Response:
        refused = self._refuse_foreign(request)
        if refused:
            return refused
        try:
            text, code = await self._tickets.redeem(
                request.match_info["code"], self._address_of(request)
            )
        except PipeError as error:
            return self._refusal(request, error)
        response = _redirect()
        lifetime = (code.session_until or code.until) - time.time()
        self._set_cookie(response, text, max(0, int(lifetime)))
        return response

    async def _leave(self, request: web.Request) -> web.Response:
        refused = self._refuse_foreign(request)
        if refused:
            return refused
        cookie = request.cookies.get(self._site.cookie_name)
        if cookie:
            try:
                await self._tickets.log_out(cookie, self._address_of(request))
            except AccessDenied:
                pass  # it has ended by itself
            except PipeError as error:
                return self._refusal(request, error)
        response = _redirect()
        self._set_cookie(response, "", 0)
        return response

    async def _link(self, request: web.Request) -> web.Response:
        # A chat that looks at an address to show what it is must not join the stream.
        try:
            link = await self._tickets.look_at_link(request.match_info["secret"])
        except PipeError as error:
            return self._refusal(request, error)
        reads = link.scope.reads.shown if link.scope else []
        writes = link.scope.writes.shown if link.scope else []
        uses = link.uses_left
        return self._page(
            "link",
            direction="read" if reads else "write",
            heading="A stream for you" if reads else "Somebody waits for a stream of yours",
            topic="".join(reads or writes),
            user=link.user,
            uses="once" if uses == 1 else f"{uses} times",
            until=_date(link.until),
            url=f"{self._site.url}/l/{quote(request.match_info['secret'])}",
        )

    def _refuse_foreign(self, request: web.Request) -> web.Response | None:
        """What is answered to a form that is not ours: another page could log its user in or out.

        The user would work in somebody else's account then, without knowing.
        """
        if self._site.accepts_origin(request.headers.get("Origin")):
            return None
        return self._message(
            "That did not come from this page",
            f"access denied: open {self._site.url} itself, under this name, and try again",
            403,
        )

    def _set_cookie(self, response: web.Response, value: str, lifetime: int) -> None:
        response.set_cookie(
            self._site.cookie_name,
            value,
            max_age=lifetime,
            path="/",
            secure=self._site.secure,
            httponly=True,
            samesite="Strict",
        )

    def _refusal(self, request: web.Request, error: PipeError) -> web.Response:
        if isinstance(error, AccessDenied):
            self._refused(request, error)
        heading, status = _HEADINGS.get(error.outcome, ("Something went wrong", 500))
        if isinstance(error, TokenRefused):
            status = 404 if error.reason is Refusal.UNKNOWN else 410
        return self._message(heading, error.message, status)

    def _message(self, heading: str, message: str, status: int) -> web.Response:
        return self._page("message", status=status, heading=heading, message=message)

    def _page(
        self, name: str, *, status: int = 200, policy: str = POLICY, **words: str
    ) -> web.Response:
        filled = {key: html.escape(word) for key, word in {**self._common, **words}.items()}
        return web.Response(
            text=self._templates[name].substitute(filled),
            status=status,
            content_type="text/html",
            charset="utf-8",
            headers={**_headers(policy), "Cache-Control": "no-store"},
        )


_HEADINGS: Final = {
    Outcome.DENIED: ("This address lets nobody in", 403),
    Outcome.UNAVAILABLE: ("Try again later", 503),
    Outcome.LIMITED: ("Try again later", 429),
}


def _headers(policy: str) -> dict[str, str]:
    return {**HEADERS, "Content-Security-Policy": policy}


def _redirect() -> web.Response:
    # Not an exception: aiohttp would add its text to it.
    return web.Response(
        status=303, headers={**_headers(POLICY), "Location": "/", "Cache-Control": "no-store"}
    )


def find_files(
    folder: Path, types: Mapping[str, str] = TYPES
) -> Iterator[tuple[str, tuple[Path, str]]]:
    """What may be had, by name: a request chooses among these, and names no path."""
    for path in sorted(folder.rglob("*")):
        content_type = types.get(path.suffix)
        if content_type and path.is_file():
            yield path.relative_to(folder).as_posix(), (path, content_type)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
