"""The registry itself: how it is asked, and which headers go through.

Hop-by-hop headers (RFC 9110, section 7.6.1) end here, and so does all that is not of the registry's
protocol: cookies, forwarded addresses, and the client's login, in whose place is our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp import web
    from aiohttp.client import _RequestContextManager

    Headers = list[tuple[str, str]]

CONNECT_SECONDS = 10.0
"""How long the registry may take to accept a connection."""

SILENCE_SECONDS = 300.0
"""How long it may say nothing once it has a request: some copy a layer before they answer."""

_ASKED = frozenset(
    {
        "accept",
        "accept-encoding",
        "content-length",
        "content-range",
        "content-type",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "range",
        "user-agent",
    }
)
_ANSWERED = frozenset(
    {
        "accept-ranges",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "etag",
        "last-modified",
        "range",
        "retry-after",
    }
)
_OWN_PREFIXES = ("docker-", "oci-")


class Upstream:
    """The registry.

    Args:
        url: where it is, perhaps with a name and a password.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._scheme = parts.scheme
        self._place = parts.netloc.rpartition("@")[2]
        self._path = parts.path.rstrip("/")
        self.base = f"{self._scheme}://{self._place}{self._path}"
        user, password = (unquote(word or "") for word in (parts.username, parts.password))
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the proxy counts
            headers={"Authorization": aiohttp.encode_basic_auth(user, password)} if user else None,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
            ),
        )

    def ask(
        self, request: web.Request, path: str, query: str, body: AsyncIterator[bytes] | None
    ) -> _RequestContextManager:
        """Send a client's request on.

        Args:
            request: as it came.
            path: what to ask for instead, encoded already, as the query is.
            query: the same.
            body: the request's, or None if it has none.
        """
        url = request.rel_url.build(
            scheme=self._scheme,
            authority=self._place,
            path=self._path + path,
            query_string=query,
            encoded=True,
        )
        headers = _pick(request.headers, _ASKED)
        return self._client.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def headers_answered(headers: Mapping[str, str]) -> Headers:
    """The headers of an answer that go on to the client, but for addresses."""
    return _pick(headers, _ANSWERED)


def _pick(headers: Mapping[str, str], names: frozenset[str]) -> Headers:
    """Those of these names and of the registry's own, each as often as it came."""
    return [
        (name, value)
        for name, value in headers.items()
        if name.lower() in names or name.lower().startswith(_OWN_PREFIXES)
    ]
