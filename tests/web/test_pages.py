"""The page without a browser: its headers, its files, and what a form of another page may do."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from pipe.web.pages import POLICY, STATIC

from .browser.standin import CODE, HOST, LINK, StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@contextlib.asynccontextmanager
async def client(scheme: str = "http") -> AsyncIterator[tuple[aiohttp.ClientSession, StandIn]]:
    """A client of the page, which says that it is at ``scheme://pipe.example.org``."""
    standin = StandIn()
    runner = web.AppRunner(
        standin.application(f"{scheme}://pipe.example.org"), handler_cancellation=True
    )
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(f"http://{HOST}:{port}") as session:
            yield session, standin
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("path", ["/", f"/login/{CODE}", f"/l/{LINK}", "/static/main.js"])
async def test_every_page_has_the_strict_policy(path: str) -> None:
    """And all else that keeps other pages away from it, and addresses out of referrers."""
    async with client() as (http, _), http.get(path) as response:
        assert response.status == 200
        assert response.headers["Content-Security-Policy"] == POLICY
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response.headers["Referrer-Policy"] == "same-origin"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] in {"no-store", "no-cache"}


@pytest.mark.parametrize(
    "name", ["../pages.py", "%2e%2e/pages.py", "..%2fpages.py", "index.html", "views", "", "/etc"]
)
async def test_only_the_files_of_the_page_are_served(name: str) -> None:
    """A request chooses among names; it is never a path."""
    async with client() as (http, _), http.get(f"/static/{name}") as response:
        assert response.status == 404


async def test_modules_are_javascript_whatever_the_machine_says() -> None:
    """Browsers run no module of another type, and /etc/mime.types has all kinds of them."""
    async with client() as (http, _):
        for name, kind in (("main.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
            async with http.get(f"/static/{name}") as response:
                assert response.content_type == kind


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_logging_in_sets_a_cookie_that_scripts_and_other_sites_cannot_use(
    scheme: str,
) -> None:
    """With TLS it is bound to this host besides."""
    async with client(scheme) as (http, _):
        headers = {"Origin": f"{scheme}://pipe.example.org"}
        async with http.post(f"/login/{CODE}", headers=headers, allow_redirects=False) as response:
            assert response.status == 303
            assert response.headers["Location"] == "/"
            cookie = response.headers["Set-Cookie"]
    name = "__Host-pipe" if scheme == "https" else "pipe"
    assert cookie.startswith(f"{name}=pts_someone;")
    attributes = {part.strip() for part in cookie.split(";")[1:]}
    assert {"HttpOnly", "Path=/", "SameSite=Strict"} <= attributes
    assert ("Secure" in attributes) == (scheme == "https")
    assert not any(part.startswith("Domain") for part in attributes)
    lifetime = next(int(part[8:]) for part in attributes if part.startswith("Max-Age"))
    assert lifetime == pytest.approx(43200, abs=60)


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
@pytest.mark.parametrize("path", [f"/login/{CODE}", "/logout"])
async def test_a_form_of_another_page_logs_nobody_in_or_out(
    path: str, origin: dict[str, str]
) -> None:
    """Whoever could would have the user work in an account of theirs."""
    async with client() as (http, standin):
        async with http.post(path, headers=origin, allow_redirects=False) as response:
            assert response.status == 403
            assert "Set-Cookie" not in response.headers
        assert standin.logged_in


async def test_logging_out_ends_the_session_and_the_cookie() -> None:
    """On the server too: a copy of the cookie is worth nothing then."""
    async with client() as (http, standin):
        headers = {"Origin": "http://pipe.example.org", "Cookie": "pipe=pts_someone"}
        async with http.post("/logout", headers=headers, allow_redirects=False) as response:
            assert response.status == 303
            assert "Max-Age=0" in response.headers["Set-Cookie"]
        assert not standin.logged_in


async def test_what_others_chose_is_text_in_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are checked long before; a page does not rely on it."""
    async with client() as (http, standin):
        code = dataclasses.replace(
            await standin.look_at_code(CODE), user="<script>alert(1)</script>"
        )

        async def look_at_code(_text: str) -> object:
            return code

        monkeypatch.setattr(standin, "look_at_code", look_at_code)
        async with http.get(f"/login/{CODE}") as response:
            text = await response.text()
        assert "<script>" not in text
        assert "&lt;script&gt;" in text


async def test_refusals_are_pages_in_the_words_of_ssh() -> None:
    """With the status that says so to programs, and whoever tries codes is charged for it."""
    text = "no such login: was the address copied in full?"
    async with client() as (http, standin), http.get(f"/login/{'c' * 27}") as response:
        assert response.status == 404
        assert text in await response.text()
        assert standin.refusals == [f"access denied: {text}"]


async def test_a_link_tells_when_it_ends() -> None:
    """In words that need no script."""
    async with client() as (http, _), http.get(f"/l/{LINK}") as response:
        text = await response.text()
    year = time.gmtime(time.time() + 86400).tm_year
    assert re.search(rf"works once, until {year}-\d\d-\d\d \d\d:\d\d UTC", text)


def test_the_page_names_no_other_host() -> None:
    """Nothing of it is loaded from elsewhere, and nothing is told elsewhere."""
    # A namespace, which nobody fetches, and an example that is text.
    allowed = {"http://www.w3.org/2000/svg", "https://ci.example.org/hooks/pipe"}

    def addresses(path: Path) -> set[str]:
        return set(re.findall(r"https?://[\w./-]+", path.read_text(encoding="utf-8")))

    own = [path for path in STATIC.rglob("*") if path.is_file() and "vendor" not in path.parts]
    assert {address for path in own for address in addresses(path)} <= allowed


def test_no_module_makes_markup_of_text() -> None:
    """What came from others is shown by text nodes only."""
    for path in STATIC.rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in text, path
