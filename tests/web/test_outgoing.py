"""What is sent to real receivers, and what is not."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pipe.events.webhooks.posting import Answer, Result
from pipe.limits.bounds import parse_networks
from pipe.web import outgoing
from pipe.web.outgoing import Outgoing
from tests.e2e.processes import DEADLINE

from .receiver import HOST, OK, endless, hang, hang_up, make_tls, receiving, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

LOCAL = parse_networks("127.0.0.0/8,::1")
HEADERS = {"Content-Type": "text/plain", "User-Agent": "pipe", "Pipe-Topic": "alice/build"}
PUBLIC = "93.184.215.14"


@pytest.fixture
async def sender() -> AsyncIterator[Outgoing]:
    """It may send to this machine."""
    sender = Outgoing(LOCAL)
    yield sender
    await sender.close()


async def post(sender: Outgoing, port: int, path: str = "/x", scheme: str = "http") -> Answer:
    """Send something to a port of this machine."""
    return await sender.post("alice", f"{scheme}://{HOST}:{port}{path}", HEADERS, b"hello")


def resolver(*answers: str) -> Callable[..., list[tuple[Any, ...]]]:
    """Names mean one address after the other, and the last one from then on."""
    left = list(answers)

    def look_up(_host: str, port: int, *_: object) -> list[tuple[Any, ...]]:
        address = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        place = (address, port, 0, 0) if ":" in address else (address, port)
        return [(family, socket.SOCK_STREAM, 6, "", place)]

    return look_up


async def test_arrives(sender: Outgoing) -> None:
    """Path, headers and body arrive as they are, each time on a connection of its own."""
    async with receiving() as receiver:
        answers = [await post(sender, receiver.port, "/a%2Fb?x=%20") for _ in range(2)]
        assert answers == 2 * [Answer(Result.DELIVERED, "answered 200", 200)]
        got = receiver.got[0]
        assert (got.line, got.body) == ("POST /a%2Fb?x=%20 HTTP/1.1", b"hello")
        assert got.headers["user-agent"] == "pipe"
        assert got.headers["content-length"] == "5"
        assert got.headers["pipe-topic"] == "alice/build"
        assert "cookie" not in got.headers
        assert receiver.connections == 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (status(204), Answer(Result.DELIVERED, "answered 204", 204)),
        (status(500), Answer(Result.REFUSED, "answered 500", 500)),
        (status(410), Answer(Result.GONE, "answered 410", 410)),
        (status(429, "Retry-After: 7"), Answer(Result.REFUSED, "answered 429", 429, 7.0)),
        (status(503, "Retry-After: soon"), Answer(Result.REFUSED, "answered 503", 503)),
        (b"SSH-2.0-x\r\n\r\n", Answer(Result.FAILED, "the answer is no HTTP")),
        (
            hang_up,
            Answer(Result.FAILED, "the connection broke before there was an answer"),
        ),
        (
            status(200, "Set-Cookie: a=b"),
            Answer(Result.DELIVERED, "answered 200", 200),
        ),
    ],
)
async def test_answers(sender: Outgoing, answer: Any, expected: Answer) -> None:  # noqa: ANN401
    """What a receiver does is told as it is, and no cookie of its comes back to it."""
    async with receiving(answer) as receiver:
        for _ in range(2):
            assert await post(sender, receiver.port) == expected
        assert all("cookie" not in got.headers for got in receiver.got)


async def test_redirects_are_not_followed(sender: Outgoing) -> None:
    """Wherever a redirect leads, nothing goes there."""
    async with receiving() as inner:
        leads = f"Location: http://{HOST}:{inner.port}/secret"
        for number in (301, 302, 303, 307, 308):
            async with receiving(status(number, leads)) as receiver:
                answer = await post(sender, receiver.port)
                assert answer.text == f"answered {number}, and redirects are not followed"
                assert answer.result is Result.REFUSED
        assert not inner.connections


async def test_answers_that_nobody_asked_for(sender: Outgoing) -> None:
    """An answer is one to what was asked: a second one behind it counts for nothing."""
    async with receiving(status(200) * 2, status(500)) as receiver:
        answers = [await post(sender, receiver.port) for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 500]


async def test_nothing_is_left_for_the_search_for_garbage(sender: Outgoing) -> None:
    """A connection on which thousands of answers came that nobody asked for is gone at once."""
    gc.collect()
    gc.disable()
    try:
        async with receiving(endless(OK, OK * 1000)) as receiver:
            for _ in range(3):
                assert (await post(sender, receiver.port)).result is Result.DELIVERED
        await sender.close()
        kinds = [type(one).__name__ for one in gc.get_objects()]
        assert "_Exchange" not in kinds
        assert "RawResponseMessage" not in kinds
    finally:
        gc.enable()


async def test_nobody_there(sender: Outgoing) -> None:
    """A port where nobody listens is a failure that says so."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        answer = await post(sender, taken.getsockname()[1])
    assert answer == Answer(Result.FAILED, "cannot connect: Connection refused")


async def test_receiver_that_hangs(sender: Outgoing, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has so long and no longer, and what it says later goes nowhere."""
    monkeypatch.setattr(outgoing, "ANSWER_SECONDS", 0.05)
    async with receiving(hang) as receiver:
        answer = await post(sender, receiver.port)
    assert answer == Answer(Result.TIMEOUT, "no answer within 0.05 seconds")


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
    ],
)
async def test_answer_without_an_end(sender: Outgoing, first: bytes, more: bytes) -> None:
    """The status counts, and the rest is not waited for."""
    async with asyncio.timeout(DEADLINE), receiving(endless(first, more)) as receiver:
        assert (await post(sender, receiver.port)).result is Result.DELIVERED


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65_536),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000),
    ],
)
async def test_head_without_an_end(sender: Outgoing, first: bytes, more: bytes) -> None:
    """A head that goes on and on is cut off long before the time is over."""
    async with asyncio.timeout(DEADLINE), receiving(endless(first, more)) as receiver:
        assert (await post(sender, receiver.port)).result is Result.FAILED


async def test_early_hints_without_an_end(
    sender: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interim answers that go on and on end with the time."""
    monkeypatch.setattr(outgoing, "ANSWER_SECONDS", 0.2)
    more = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with asyncio.timeout(DEADLINE), receiving(endless(b"", more)) as receiver:
        assert (await post(sender, receiver.port)).result is Result.TIMEOUT


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::]", "0.0.0.0"),  # noqa: S104
        *("169.254.169.254", "10.0.0.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]"),
    ],
)
async def test_private_addresses(host: str) -> None:
    """Nothing is connected to within this machine or its networks, however it is written."""
    async with receiving() as receiver:
        for scheme in ("https", "http"):
            sender = Outgoing(())
            url = f"{scheme}://{host}:{receiver.port}/"
            answer = await sender.post("alice", url, HEADERS, b"x")
            await sender.close()
            assert answer.result is Result.ADDRESS
            assert "is not a public address" in answer.text
        assert not receiver.connections


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1", "0x7f000001"])
async def test_addresses_in_other_forms(host: str) -> None:
    """An address as a number, in octal or cut short is not sent to either."""
    async with receiving() as receiver:
        sender = Outgoing(())
        answer = await sender.post("alice", f"https://{host}:{receiver.port}/", HEADERS, b"x")
        await sender.close()
        assert answer.result is not Result.DELIVERED
        assert not receiver.connections


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254"])
async def test_names_of_private_addresses(address: str) -> None:
    """A name of a private address is refused, and what it means is said."""
    sender = Outgoing((), look_up=resolver(address))
    answer = await sender.post("alice", "https://evil.example/", HEADERS, b"x")
    await sender.close()
    assert answer.result is Result.ADDRESS
    assert answer.text.startswith("evil.example: ")


async def test_name_that_changes_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is judged by the address that is connected to, whatever it meant before.

    Here it means a public address whenever it is looked up and judged, and another one by the time
    of the connection.
    """
    async with receiving() as receiver:
        sender = Outgoing((), look_up=resolver(PUBLIC))
        resolve = outgoing._Resolver.resolve  # noqa: SLF001

        async def rebound(self: Any, host: str, port: int = 0, *_: object, **__: object) -> Any:  # noqa: ANN401
            found = await resolve(self, host, port)
            assert found[0]["host"] == PUBLIC
            return [{**found[0], "host": HOST}]

        monkeypatch.setattr(outgoing._Resolver, "resolve", rebound)  # noqa: SLF001
        url = f"https://evil.example:{receiver.port}/"
        answer = await sender.post("alice", url, HEADERS, b"x")
        await sender.close()
        assert answer.result is Result.ADDRESS
        assert not receiver.connections


async def test_name_that_changes_between_two_posts() -> None:
    """What a name meant a moment ago counts for nothing."""
    async with receiving() as receiver:
        sender = Outgoing(parse_networks("127.0.0.1"), look_up=resolver(HOST, "127.0.0.2"))
        url = f"http://evil.example:{receiver.port}/"
        receiver.answers = [status(200, "Connection: close")]
        first = await sender.post("alice", url, HEADERS, b"x")
        second = await sender.post("alice", url, HEADERS, b"x")
        await sender.close()
        assert [first.result, second.result] == [Result.DELIVERED, Result.ADDRESS]
        assert receiver.connections == 1


async def test_plain_http_stays_in_its_networks() -> None:
    """Where plain HTTP is allowed, it is only there: not to public addresses."""
    sender = Outgoing(LOCAL, look_up=resolver(PUBLIC))
    answer = await sender.post("alice", "http://example.org/", HEADERS, b"x")
    await sender.close()
    assert answer == Answer(
        Result.ADDRESS, f"example.org: http is not allowed to {PUBLIC}: use https"
    )


async def test_no_proxy_of_the_environment(
    sender: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is meant for other programs is not used: it could reach anything."""
    async with receiving() as receiver, receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{HOST}:{proxy.port}")
        assert (await post(sender, receiver.port)).result is Result.DELIVERED
        assert not proxy.connections


async def test_no_such_name(sender: Outgoing) -> None:
    """A name without an address is a failure that says so."""

    def look_up(*_: object) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    sender = Outgoing(LOCAL, look_up=look_up)
    answer = await sender.post("alice", "https://none.example/", HEADERS, b"x")
    await sender.close()
    assert answer == Answer(Result.FAILED, "there is no address of none.example")


async def test_slow_names_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names of a user's nobody answers for, another's are looked up."""
    monkeypatch.setattr(outgoing, "ANSWER_SECONDS", 0.05)
    asked = 0
    quick = resolver(HOST)
    wait = threading.Event()

    def look_up(host: str, port: int, *more: object) -> list[tuple[Any, ...]]:
        nonlocal asked
        if host == "slow.example":
            asked += 1
            wait.wait(DEADLINE)
        return quick(host, port, *more)

    async with receiving() as receiver:
        sender = Outgoing(LOCAL, look_up=look_up)
        slow = [sender.post("mallory", "http://slow.example:1/", HEADERS, b"x") for _ in range(40)]
        answers = await asyncio.gather(*slow)
        assert {answer.result for answer in answers} == {Result.TIMEOUT}
        assert asked == outgoing.LOOKUPS_PER_USER
        monkeypatch.setattr(outgoing, "ANSWER_SECONDS", DEADLINE)
        url = f"http://quick.example:{receiver.port}/"
        assert (await sender.post("alice", url, HEADERS, b"x")).result is Result.DELIVERED
        wait.set()
        answer = await sender.post("mallory", url, HEADERS, b"x")
        assert answer.result is Result.DELIVERED
        await sender.close()


async def test_tls(tmp_path: Path) -> None:
    """A certificate that is trusted and names the host is good, and others are not."""
    server, trusting = make_tls(tmp_path)
    async with receiving(OK, tls=server) as receiver:
        cases = [
            (trusting, "localhost", "answered 200"),
            (trusting, "other.example", "the certificate is not good for other.example"),
            (None, "localhost", "the certificate is not good for localhost"),
        ]
        for tls, host, text in cases:
            sender = Outgoing(LOCAL, tls, look_up=resolver(HOST))
            url = f"https://{host}:{receiver.port}/"
            assert (await sender.post("alice", url, HEADERS, b"x")).text == text
            await sender.close()


async def test_no_tls(sender: Outgoing) -> None:
    """A receiver that speaks no TLS is a failure that says so."""
    async with receiving(greeting=b"220 mail.example\r\n") as receiver:
        answer = await post(sender, receiver.port, scheme="https")
    assert answer == Answer(Result.FAILED, "TLS failed")
