"""Parts of a stream by HTTP: which byte one goes on with, and of which stream."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pipe.language.names import TopicName
from pipe.rights.access import Loss
from pipe.rights.grants import Grant, Operation

from .served import Conn, Served, request_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NAME = TopicName("alice", ("build",))


@pytest.fixture(autouse=True)
async def let_go(served: Served) -> AsyncIterator[None]:
    """Keep nothing after the test."""
    yield
    served.service.router.let_go(NAME)


async def begin(served: Served, path: str, user: str = "alice") -> Conn:
    """Begin to publish what is eleven bytes long."""
    conn = await served.connect()
    await conn.send(request_head("PUT", path, 11, user) + b"hello")
    return conn


async def keep(served: Served, text: bytes = b"hello world") -> str:
    """Publish something that stays, and return its stream's identifier."""
    sent = await served.ask("PUT", "/topic/build?block=false&keep=1MiB&linger=1h", text)
    assert sent.status == 200
    history = served.service.router.history(NAME)
    assert history
    return history.stream.name


async def test_stream_is_told(served: Served) -> None:
    """A response says which stream it is, and with which byte it begins."""
    stream = await keep(served)
    got = await served.ask("GET", "/topic/build?from=6")
    assert (got.status, got.body) == (200, b"world")
    assert (got.headers["pipe-stream"], got.headers["pipe-offset"]) == (stream, "6")


async def test_range_of_a_stream(served: Served) -> None:
    """What follows a byte comes as 206."""
    stream = await keep(served)
    headers = {"Range": "bytes=6-", "Pipe-Stream": stream}
    got = await served.ask("GET", "/topic/build", headers=headers)
    assert (got.status, got.body, got.whole) == (206, b"world", True)
    assert got.headers["content-range"].startswith("bytes 6-")
    assert got.headers["pipe-stream"] == stream


@pytest.mark.parametrize("text", ["bytes=6-8", "bytes=-5", "bytes=1-2,4-", "lines=6-", "bytes=x-"])
async def test_range_of_another_kind(served: Served, text: str) -> None:
    """It is not heeded, as HTTP allows: nothing is cut off."""
    stream = await keep(served)
    got = await served.ask(
        "GET", "/topic/build?from=0", headers={"Range": text, "Pipe-Stream": stream}
    )
    assert got.body == b"hello world"


async def test_range_without_a_stream(served: Served) -> None:
    """It might be one of another stream, so it is not heeded."""
    await keep(served)
    got = await served.ask("GET", "/topic/build?from=0", headers={"Range": "bytes=6-"})
    assert (got.status, got.body) == (200, b"hello world")


@pytest.mark.parametrize("offset", [12, 10**17])
async def test_range_that_is_not_there(served: Served, offset: int) -> None:
    """416, and what is."""
    stream = await keep(served)
    headers = {"Range": f"bytes={offset}-", "Pipe-Stream": stream}
    got = await served.ask("GET", "/topic/build", headers=headers)
    assert got.status == 416
    assert got.headers["content-range"] == "bytes */11"
    assert (got.headers["pipe-stream"], got.headers["pipe-kept"]) == (stream, "0-11")
    assert got.text == (
        f"byte {offset} has not come: stream {stream} has bytes 0 to 11, and is over\n"
    )


async def test_range_of_another_stream(served: Served) -> None:
    """416 too, with the identifier of the one that there is."""
    stream = await keep(served)
    headers = {"Range": "bytes=6-", "Pipe-Stream": "0123456789ab"}
    got = await served.ask("GET", "/topic/build", headers=headers)
    assert (got.status, got.headers["pipe-stream"]) == (416, stream)


async def test_publisher_goes_on(served: Served) -> None:
    """A body that breaks off is held, and the rest comes with Content-Range."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    writer = await begin(served, "/topic/build?hold=1h")
    assert (await reader.head())[0] == 200
    assert await reader.chunk() == b"hello"
    writer.close()
    await served.until(lambda: NAME in served.service.holds, "the stream is held")
    assert (await served.ask("GET", "/api/offset/build")).json == {"offset": 5}
    wrong = await served.ask("PUT", "/topic/build", b"x", headers={"Content-Range": "bytes 4-*/*"})
    assert wrong.status == 412
    sent = await served.ask(
        "PUT", "/topic/build", b" world", headers={"Content-Range": "bytes 5-10/11"}
    )
    assert sent.status == 200
    assert await reader.chunk() == b" world"
    assert await reader.chunk() == b""


async def test_content_range_that_is_none(served: Served) -> None:
    """400, with what it takes."""
    got = await served.ask("PUT", "/topic/build", b"x", headers={"Content-Range": "bytes 5"})
    assert got.status == 400
    assert "bytes N-*/*" in got.text


async def test_reader_is_held(served: Served) -> None:
    """One that goes away with ?hold comes back to its byte, and is one reader for the receipt."""
    writer = await begin(served, "/topic/build?keep=1MiB")
    await served.until(lambda: served.service.router.history(NAME), "it is kept")
    reader = await served.request("GET", "/topic/build?hold=1h&from=0")
    head = (await reader.head())[1]
    assert await reader.chunk() == b"hello"
    reader.close()
    held = served.service.holds
    await served.until(lambda: held.readers_of(NAME, "alice"), "its place is held")
    headers = {"Range": "bytes=2-", "Pipe-Stream": head["pipe-stream"]}
    again = await served.request("GET", "/topic/build?hold=1h", headers=headers)
    assert (await again.head())[0] == 206
    await writer.send(b" world")
    assert (await again.chunk()) == b"llo"
    assert (await again.chunk()) == b" world"
    assert await again.chunk() == b""
    assert (await writer.response()).text == "sent 11 bytes to 1 subscriber\n"


async def test_two_readers_go_on_from_one_byte(served: Served) -> None:
    """The second gets what the ring has, as anybody does; neither gets a wrong byte."""
    writer = await begin(served, "/topic/build?keep=1MiB")
    await served.until(lambda: served.service.router.history(NAME), "it is kept")
    lost = await served.request("GET", "/topic/build?hold=1h&from=0")
    head = (await lost.head())[1]
    assert await lost.chunk() == b"hello"
    lost.close()
    await served.until(lambda: served.service.holds.readers_of(NAME, "alice"), "it is held")
    headers = {"Range": "bytes=3-", "Pipe-Stream": head["pipe-stream"]}
    heirs = [await served.request("GET", "/topic/build?hold=1h", headers=headers) for _ in range(2)]
    assert [(await heir.head())[0] for heir in heirs] == [206] * 2
    await writer.send(b" world")
    for heir in heirs:
        assert (await heir.chunk(), await heir.chunk()) == (b"lo", b" world")
        assert await heir.chunk() == b""
    assert (await writer.response()).status == 200


@pytest.mark.parametrize("last", ["1MiB", "11", "200l"])
async def test_more_of_the_past_than_there_is(served: Served, last: str) -> None:
    """What there is."""
    await keep(served)
    got = await served.ask("GET", f"/topic/build?last={last}")
    assert (got.status, got.body) == (200, b"hello world")


def end_grant(served: Served) -> None:
    """The topic's owner takes back what bob may."""
    served.service.access.set_grants(NAME, (), Loss.REVOKED)


def remove_user(served: Served) -> None:
    """Bob has no account any more."""
    served.service.access.bar("bob")
    served.service.expel()


def end_token(served: Served) -> None:
    """Somebody removes the token that bob came with."""
    served.service.access.end_token(served.tokens.token)
    served.service.expel()


def end_time(served: Served) -> None:
    """The time of bob's login is over."""
    if served.service.access.expire():
        served.service.expel()


ENDS = [end_grant, remove_user, end_token, end_time]


@pytest.fixture
def guest(served: Served) -> None:
    """Bob may use alice's topic, and comes with a token that ends."""
    grant = Grant(NAME, "bob", Operation.BOTH, None, "alice", 0.0)
    served.service.access.set_grants(NAME, [grant], Loss.REVOKED)
    served.tokens.token, served.tokens.until = "0123", time.time()


@pytest.mark.usefixtures("guest")
@pytest.mark.parametrize("end", ENDS)
async def test_publishers_place_does_not_outlive_its_right(
    served: Served, end: Callable[[Served], None]
) -> None:
    """The stream breaks for those who wait for the rest."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    writer = await begin(served, "/topic/alice/build?hold=1h", "bob")
    assert (await reader.head())[0] == 200
    assert await reader.chunk() == b"hello"
    writer.close()
    await served.until(lambda: NAME in served.service.holds, "the stream is held")
    end(served)
    assert NAME not in served.service.holds
    assert await reader.chunk() is None


@pytest.mark.usefixtures("guest")
@pytest.mark.parametrize("end", ENDS)
async def test_readers_place_does_not_outlive_its_right(
    served: Served, end: Callable[[Served], None]
) -> None:
    """Who publishes waits for it no longer."""
    writer = await begin(served, "/topic/build?keep=1MiB")
    await served.until(lambda: served.service.router.history(NAME), "it is kept")
    reader = await served.request("GET", "/topic/alice/build?hold=1h&from=0", user="bob")
    await reader.head()
    assert await reader.chunk() == b"hello"
    reader.close()
    held = served.service.holds
    await served.until(lambda: held.readers_of(NAME, "bob"), "its place is held")
    await writer.send(b" world")
    history = served.service.router.history(NAME)
    assert history
    await served.until(lambda: history.ring.end == 11, "it has ended, and waits for the reader")
    end(served)
    assert not held.readers_of(NAME, "bob")
    assert "all readers left early" in (await writer.response()).text


async def test_stat(served: Served) -> None:
    """The members and their figures, as ``stat --json`` has them."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    got = await served.ask("GET", "/api/stat/build")
    assert (got.json["topic"], got.json["members"]) == ("alice/build", 1)
    assert [one["mode"] for one in got.json["sessions"]] == ["subscribe"]
    reader.close()
