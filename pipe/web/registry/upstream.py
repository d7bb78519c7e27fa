"""The registry itself: how it is asked, and which headers go through.

Hop-by-hop headers (RFC 9110, section 7.6.1) end here, and so does all that is not of the registry's
protocol: cookies, forwarded addresses, and the client's login, in whose place is our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.client import _RequestContextManager
    from multidict import CIMultiDictProxy

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
        found = URL(url)
        self.base = str(found.with_user(None)).rstrip("/")
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the proxy counts
            auth=aiohttp.BasicAuth(found.user, found.password or "") if found.user else None,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
            ),
        )

    def ask(
        self,
        method: str,
        path: str,
        query: str,
        headers: CIMultiDict[str],
        body: AsyncIterator[bytes] | None,
    ) -> _RequestContextManager:
        """Send a request; ``path`` and ``query`` are encoded already."""
        address = f"{self.base}{path}?{query}" if query else f"{self.base}{path}"
        url = URL(address, encoded=True)
        return self._client.request(method, url, headers=headers, data=body, allow_redirects=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def headers_asked(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers of a request that go on to the registry."""
    return _pick(headers, _ASKED)


def headers_answered(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers of an answer that go on to the client, but for addresses."""
    return _pick(headers, _ANSWERED)


def _pick(headers: CIMultiDictProxy[str], names: frozenset[str]) -> CIMultiDict[str]:
    """Those of these names and of the registry's own, each as often as it came."""
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() in names or name.lower().startswith(_OWN_PREFIXES)
    )
