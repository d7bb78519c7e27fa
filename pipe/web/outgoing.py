"""Sends webhooks: aiohttp's client, with every way out of bounds closed.

- Every address is judged as it is connected to: by the resolver for the sake of a clear answer, and
  by `_open_socket`, which makes the socket for this very address.  So a name that means one address
  when it is looked up and another one later gains nothing.
- Each POST has a connection of its own: on one that is kept a receiver could answer what nobody has
  asked yet, and fill memory with that.
- No redirect is followed, no proxy of the environment is used, and no cookie is kept.
- What a target can cost is bounded: `ANSWER_SECONDS` in all, `ANSWER_BYTES` of an answer, read in
  small pieces, `LOOKUPS` of names at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from pipe.events.webhooks.posting import ANSWER_SECONDS, Answer, Result
from pipe.events.webhooks.schedule import parse_retry_after
from pipe.events.webhooks.targets import host_of, is_plain, why_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from pipe.limits.bounds import Network

    Found: TypeAlias = "list[tuple[Any, ...]]"

ANSWER_BYTES = 64 * 1024
"""How much of an answer is read.  Its status is all that counts; the rest is read so that receivers
need not log that we hung up on them."""

RECEIVE_BYTES = 4 * 1024
"""What the system keeps of an answer, and half of what the parser gets in one go: a flood of empty
interim answers takes 2 ms a piece, and with 16 KiB it takes 30."""

LOOKUPS = 32
LOOKUPS_PER_USER = 2
"""Names that are looked up at once, each on a thread: whose server does not answer may take half a
minute, however soon we give up on it."""

GONE = 410

_user: ContextVar[str] = ContextVar("user")
"""Whose webhook is being sent in this task."""


class AddressRefused(OSError):
    """The address is one that nothing may be sent to."""


class _Exchange(ResponseHandler):
    """A connection, which leaves nothing for the search for garbage.

    aiohttp keeps answers that nobody asked for in a queue whose entries refer to the connection,
    and `pipe.app` has Python search for such circles seldom.
    """

    def connection_lost(self, exc: BaseException | None) -> None:
        """Drop what nobody has read."""
        super().connection_lost(exc)
        self._buffer.clear()


class _Connector(aiohttp.TCPConnector):
    """Makes connections of our kind."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(**options)
        self._factory = partial(_Exchange, loop=self._loop)  # type: ignore[assignment]


class Outgoing:
    """Sends webhooks.

    Args:
        networks: where plain HTTP and private addresses are allowed.
        tls: what to check certificates with; by default what the system trusts.
        look_up: ``socket.getaddrinfo``.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        tls: ssl.SSLContext | None = None,
        look_up: Callable[..., Found] = socket.getaddrinfo,
    ) -> None:
        self._networks = networks
        self._tls = tls or ssl.create_default_context()
        self._names = _Names(look_up)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def post(self, user: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a body, as `pipe.events.webhooks.posting.Poster` says."""
        session = self._session(plain=is_plain(url))
        target = URL(url, encoded=True)
        _user.set(user)
        answer = None
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                session.post(target, data=body, headers=headers, allow_redirects=False) as response,
            ):
                answer = _answer(response)
                await _skip(response)
        except TimeoutError:
            late = f"no answer within {ANSWER_SECONDS:g} seconds"
            return answer or Answer(Result.TIMEOUT, late)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return answer or _failure(error, url)
        return answer

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _session(self, *, plain: bool) -> aiohttp.ClientSession:
        """Connections over TLS and others are judged by different rules, and kept apart."""
        if plain not in self._sessions:
            judge = partial(why_refused, networks=self._networks, plain=plain)
            self._sessions[plain] = aiohttp.ClientSession(
                connector=_Connector(
                    ssl=self._tls,
                    limit=0,  # whoever calls has one
                    force_close=True,
                    use_dns_cache=False,
                    resolver=_Resolver(self._names, judge),
                    socket_factory=partial(_open_socket, judge),
                ),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                read_bufsize=RECEIVE_BYTES,
                headers={"Accept-Encoding": "identity"},
            )
        return self._sessions[plain]


async def _skip(response: aiohttp.ClientResponse) -> None:
    """Read an answer to its end, or hang up if it is long."""
    left = ANSWER_BYTES
    while left > 0 and (data := await response.content.read(left)):
        left -= len(data)
    if not response.content.at_eof():
        response.close()


def _answer(response: aiohttp.ClientResponse) -> Answer:
    status = response.status
    text = f"answered {status}"
    if 200 <= status < 300:
        return Answer(Result.DELIVERED, text, status)
    if status == GONE:
        return Answer(Result.GONE, text, status)
    if 300 <= status < 400:
        text += ", and redirects are not followed"
    retry_after = parse_retry_after(response.headers.get("Retry-After"), time.time())
    return Answer(Result.REFUSED, text, status, retry_after)


def _failure(error: Exception, url: str) -> Answer:
    cause: BaseException = error
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(cause, AddressRefused):
        return Answer(Result.ADDRESS, str(cause))
    match error:
        case aiohttp.ClientConnectorCertificateError():
            text = f"the certificate is not good for {host_of(url)}"
        case aiohttp.ClientConnectorDNSError():
            text = f"there is no address of {host_of(url)}"
        case aiohttp.ClientConnectorSSLError():
            text = "TLS failed"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            text = f"cannot connect: {os.strerror(number) if number else 'no way there'}"
        case aiohttp.ClientResponseError():
            text = "the answer is no HTTP"
        case _:
            text = "the connection broke before there was an answer"
    return Answer(Result.FAILED, text)


def _open_socket(judge: Callable[[str], str], info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for a connection to an address.

    Raises:
        AddressRefused: nothing may be sent there.
    """
    family, kind, protocol, _, address = info
    if reason := judge(address[0]):
        raise AddressRefused(reason)
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return made


class _Resolver(AbstractResolver):
    """Looks names up, and leaves out addresses that nothing may be sent to."""

    def __init__(self, names: _Names, judge: Callable[[str], str]) -> None:
        self._names = names
        self._judge = judge

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            AddressRefused: there are only such that nothing may be sent to.
            OSError: there are none.
        """
        reason = "there is no address"
        addresses: list[ResolveResult] = []
        for found, _, protocol, _, place in await self._names.find(host, port, family):
            if why := self._judge(place[0]):
                reason = f"{host}: {why}"
                continue
            addresses.append(
                ResolveResult(
                    hostname=host,
                    host=place[0],
                    port=place[1],
                    family=found,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if not addresses:
            raise AddressRefused(reason)
        return addresses

    async def close(self) -> None:
        """Nothing is open."""


class _Names:
    """Asks the system for addresses, on threads of its own.

    The event loop's threads are few, and who fills them with names that nobody answers for would
    hold up everybody.  These are daemons, so that such a name does not hold up the end either.
    """

    def __init__(self, look_up: Callable[..., Found]) -> None:
        self._look_up = look_up
        self._all = asyncio.Semaphore(LOOKUPS)
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def find(self, host: str, port: int, family: int) -> Found:
        """Return what ``socket.getaddrinfo`` finds, or raise what it raises."""
        user = _user.get()
        own = self._slots.get(user)
        if own is None:
            own = self._slots[user] = asyncio.Semaphore(LOOKUPS_PER_USER)
        await own.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            own.release()
            raise
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Found] = loop.create_future()

        def take(found: Found | OSError) -> None:
            own.release()
            self._all.release()
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            found: Found | OSError
            try:
                found = self._look_up(host, port, family, socket.SOCK_STREAM)
            except OSError as error:
                found = error
            except UnicodeError:  # a name that is too long for the system
                found = OSError("no name")
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(take, found)

        threading.Thread(target=work, name="pipe-names", daemon=True).start()
        return await answer
