"""The documentation as a site, below /docs/, where `make docs` or a release has put it.

Its pages are static and know nobody, but share their origin with the page.  So their policy is as
strict: it allows the scripts that came with them and no other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pipe.web.pages import HEADERS, TYPES, find_files

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER: Final = Path(__file__).parent / "docs"

_MANUAL_TYPES: Final = {
    **TYPES,
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
}

_INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class Manual:
    """Serves the site, if it is there.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = dict(find_files(folder, _MANUAL_TYPES))
        pages = [path for path, _ in self._files.values() if path.suffix == ".html"]
        scripts = " ".join(sorted(set(_hashes(pages))))
        self._headers = {
            **HEADERS,
            "Content-Security-Policy": "default-src 'none'; "
            f"script-src 'self' {scripts}; style-src 'self'; img-src 'self' data:; "
            "connect-src 'self'; worker-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "Cache-Control": "no-cache",
        }

    def __bool__(self) -> bool:
        return "index.html" in self._files

    def routes(self) -> list[web.RouteDef]:
        """The routes, for an application's router; none without a site."""
        if not self:
            return []
        return [
            web.get("/docs", self._start),
            web.get("/docs/{name:.*}", self._file),
        ]

    async def _start(self, _request: web.Request) -> web.Response:
        return web.Response(status=301, headers={**self._headers, "Location": "/docs/"})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = self._files.get(request.match_info["name"] or "index.html")
        if found is None:
            return web.Response(status=404, text="no such page\n", headers=self._headers)
        path, content_type = found
        return web.FileResponse(path, headers={**self._headers, "Content-Type": content_type})


def _hashes(pages: Iterable[Path]) -> set[str]:
    """What the policy calls the scripts inside these pages (CSP level 3, section 2.3.1)."""
    found = {script for page in pages for script in _INLINE.findall(page.read_bytes())}
    digests = (hashlib.sha256(script).digest() for script in found)
    return {f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests}
