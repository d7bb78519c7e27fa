"""A server's topics, by whichever way there is to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

from pipe.client.resume import Opener, open_resumable
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


class Way(Opener, Protocol):
    """How a server is reached."""

    async def connect(self) -> None:
        """Find out whether it can be reached, and log in."""

    async def run(self, command: str, **terminal: Any) -> Link:  # noqa: ANN401
        """Begin a command, drawn in a terminal if there is something to tell of one."""

    async def list_topics(self, request: List) -> list[dict[str, Any]]:
        """List topics, as the JSON of ``ls`` has them."""

    async def close(self) -> None:
        """Hang up."""


class Server(Verbs):
    """The topics of a server, for as long as a block of ``async with`` lasts.

    Instances come from `pipe.connect`.  Streams that are open when the block is left are broken.
    """

    def __init__(self, way: Way, tell: Callable[[str], None], *, reconnect: bool) -> None:
        self._way = way
        self._tell = tell
        self._reconnect = reconnect

    async def __aenter__(self) -> Self:
        if not self._reconnect:
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

    async def rows(self, request: List) -> list[dict[str, Any]]:
        """List topics, as the JSON of ``ls`` has them; `topics` is for programs."""
        return await self._way.list_topics(request)

    async def open(self, request: Publish | Subscribe | Pipe) -> Link:
        """Begin a stream; `publish`, `subscribe` and `pipe` are for programs."""
        if self._reconnect:
            return await open_resumable(self._way, request, self._tell)
        return await self._way.open(request)

    async def run(self, command: str, **terminal: Any) -> Link:  # noqa: ANN401
        """Begin a command; `command` is for programs."""
        return await self._way.run(command, **terminal)

    async def _open(self, request: Publish | Subscribe | Pipe) -> Link:
        return await self.open(request)

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
    reconnect: bool = False,
    on_status: Callable[[str], None] | None = None,
    on_stderr: Callable[[bytes], None] | None = None,
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
        reconnect: Whether streams go on when the connection is lost or the server restarts: see
            docs/library.md for what may be lost then.
        on_status: Called with each line that the commands show on stderr.
        on_stderr: For SSH: called with that as it comes, lines that are drawn over themselves too.

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
        way: Way = SSH(options, host, tell, on_stderr)
    else:
        from pipe.client.http import HTTP

        way = HTTP(url, token, tell)
    return Server(way, tell, reconnect=reconnect)


def _ignore(_line: str) -> None:
    """Nobody wants to know."""
