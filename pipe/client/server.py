"""A server's topics, by whichever way there is to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

from pipe.errors import UsageError
from pipe.language.names import quoted
from pipe.library.verbs import TopicInfo, Verbs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from pipe.language.requests import List, Pipe, Publish, Subscribe
    from pipe.library.streams import Link

FORMS = "write ssh://USER@HOST:PORT, or https://HOST with a token"


class Way(Protocol):
    """How a server is reached."""

    async def connect(self) -> None:
        """Find out whether it can be reached, and log in."""

    async def open(self, request: Publish | Subscribe | Pipe) -> Link:
        """Begin a stream."""

    async def answer(self, command: str, stdin: bytes) -> str:
        """Run a command that only answers."""

    async def list_topics(self, request: List) -> list[dict[str, Any]]:
        """List topics, as the JSON of ``ls`` has them."""

    async def close(self) -> None:
        """Hang up."""


class Server(Verbs):
    """The topics of a server, for as long as a block of ``async with`` lasts.

    Instances come from `pipe.connect`.  Streams that are open when the block is left are broken.
    """

    def __init__(self, way: Way) -> None:
        self._way = way

    async def __aenter__(self) -> Self:
        await self._way.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._way.close()

    async def command(self, text: str, stdin: bytes = b"") -> str:
        """Run a command that only answers, such as ``whoami`` or ``grant build bob``.

        Args:
            text: The command, as it follows ``ssh HOST``.
            stdin: What it reads, such as a key.

        Raises:
            PipeError: It was refused, or the server is reached by HTTP.
        """
        return await self._way.answer(text, stdin)

    async def _open(self, request: Publish | Subscribe | Pipe) -> Link:
        return await self._way.open(request)

    async def _topics(self, request: List) -> list[TopicInfo]:
        rows = await self._way.list_topics(request)
        fields = ("publishers", "subscribers", "pipes", "waiting", "clogged")
        sizes = ("in_bytes", "out_bytes", "stream_bytes")
        return [
            TopicInfo(name=row["topic"], **{name: row[name] for name in (*fields, *sizes)})
            for row in rows
        ]


def connect(
    url: str,
    *,
    token: str | None = None,
    identity: str | Path | None = None,
    known_hosts: str | Path | None = None,
    config: str | Path | None = None,
    on_status: Callable[[str], None] | None = None,
) -> Server:
    """Reach a server: ``async with pipe.connect("ssh://alice@host:2222") as server``.

    Args:
        url: ``ssh://USER@HOST:PORT``, where user and port may be left to ``~/.ssh/config``, and the
            host may be a name from there; or ``https://HOST``, where its page is.
        token: For HTTP: what ``ssh HOST tokens add`` has printed.
        identity: For SSH: the one private key to log in with, in place of the agent's and the
            usual ones.
        known_hosts: For SSH: where the server's key is known from; default: the usual files.
        config: For SSH: the configuration; default: ``~/.ssh/config``.
        on_status: Called with each line that the commands show on stderr.

    Raises:
        UsageError: The address cannot be used.
    """
    tell = on_status or _ignore
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"the address {quoted(url)} cannot be read: {FORMS}") from None
    if parts.scheme not in {"ssh", "http", "https"} or not host:
        raise UsageError(f"the address {quoted(url)} is of no known form: {FORMS}")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.password:
        raise UsageError(f"the address {quoted(url)} says more than a server: {FORMS}")
    if parts.scheme == "ssh":
        from pipe.client.ssh import SSH, ssh_options

        options = ssh_options(host, port, parts.username, identity, known_hosts, config)
        return Server(SSH(options, host, tell))
    from pipe.client.http import HTTP

    return Server(HTTP(url, token, tell))


def _ignore(_line: str) -> None:
    """Nobody wants to know."""
