"""Streams that go on after a lost connection, over SSH."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

import pipe
from pipe.client import resume
from pipe.client.lines import Lines
from pipe.errors import Outcome
from pipe.language.past import Last
from pipe.language.requests import OnSlow, Pipe, Subscribe
from pipe.library.ends import ConnectionLost, End, LoginRefused
from tests.e2e.server import free_port
from tests.library.places import Place, credentials, soon
from tests.ssh.serving import serving
from tests.web.served import serving as serving_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once: no test is about how long that takes."""
    monkeypatch.setattr(resume, "FIRST_SECONDS", 0.01)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A server, and alice, whose streams go on."""
    async with serving(tmp_path) as service, reconnecting(service, tmp_path) as found:
        yield found


@contextlib.asynccontextmanager
async def reconnecting(service: Any, folder: Path) -> AsyncIterator[Place]:  # noqa: ANN401
    """Alice's way to a server."""
    told: list[str] = []
    url, options = credentials(service, folder)
    async with pipe.connect(url, reconnect=True, on_status=told.append, **options) as server:
        yield Place(server, service.router, told)


def cut(place: Place) -> None:
    """Break the connections of the client."""
    for connection in list(place.verbs._way._open):  # type: ignore[attr-defined]  # noqa: SLF001
        connection.abort()


async def test_reader_goes_on(place: Place) -> None:
    """A reader whose connection breaks again and again has the stream from its first byte on."""
    data = Random(2).randbytes(6 * MIB)
    got = bytearray()

    async def write() -> None:
        async with place.verbs.publish("film", keep="16MiB", linger=60) as stream:
            await stream.write(data)

    writer = asyncio.create_task(write())
    await place.wait_members("film", 1)
    cuts = 0
    async with place.verbs.subscribe("film") as stream:
        async for piece in stream:
            got += piece
            if len(got) > (cuts + 1) * MIB and cuts < 3:
                cuts += 1
                cut(place)
    await soon(writer)
    assert cuts == 3
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    assert any("trying again in" in line for line in place.told)
    async with place.verbs.publish("film", block=False, keep=1):
        pass


async def test_publisher_goes_on(place: Place) -> None:
    """A publisher whose connection breaks sends what did not arrive, once; readers see nothing."""
    data = Random(3).randbytes(6 * MIB)
    other = asyncio.create_task(read_elsewhere(place))
    await place.wait_members("film", 1)
    writer = place.verbs.publish("film")
    async with writer as stream:
        for number in range(6):
            await soon(stream.write(data[number * MIB : (number + 1) * MIB]))
            if number % 2:
                cut(place)
    assert await soon(other) == data
    assert writer.receipt
    assert (writer.receipt.sent_bytes, writer.receipt.left_early) == (len(data), 0)


@pytest.mark.parametrize("topic", [None, "film", "public/film"])
async def test_publisher_of_any_name_goes_on(place: Place, topic: str | None) -> None:
    """It finds its stream again where the name is public, and where the server did not get one."""
    writer = place.verbs.publish(topic, public=topic is not None)
    async with pipe.Server(place.verbs._way.again(), lambda _: None, reconnect=False) as other:  # type: ignore[attr-defined]  # noqa: SLF001
        async with writer as stream:
            name = (await other.topics("public/*" if topic else "*"))[0].name
            reader = asyncio.create_task(other.subscribe(name).read())
            await soon(stream.write(b"before"))
            await place.until(lambda: place.router.statistics().received_chunks)
            cut(place)
            await soon(stream.write(b"after"))
        assert await soon(reader) == b"beforeafter"


async def read_elsewhere(place: Place) -> bytes:
    """Read over a connection that nobody breaks."""
    other = pipe.Server(place.verbs._way.again(), lambda _: None, reconnect=False)  # type: ignore[attr-defined]  # noqa: SLF001
    async with other as server:
        return await server.subscribe("film").read()


async def test_connection_lost_at_the_end(place: Place) -> None:
    """A connection that breaks while the receipt is waited for costs nothing either."""
    async with pipe.Server(place.verbs._way.again(), lambda _: None, reconnect=False) as other:  # type: ignore[attr-defined]  # noqa: SLF001
        reader = other.subscribe("film")
        async with reader:
            writer = asyncio.create_task(publish(place, bytes(4 * MIB)))
            first = await soon(anext(reader))
            cut(place)
            rest = await soon(reader.read())
        assert len(first) + len(rest) == 4 * MIB
        assert (await soon(writer)).left_early == 0


async def publish(place: Place, data: bytes) -> pipe.Receipt:
    """Publish, and return the receipt."""
    writer = place.verbs.publish("film")
    async with writer as stream:
        await stream.write(data)
    assert writer.receipt
    return writer.receipt


async def test_reader_that_may_lose_nothing(place: Place) -> None:
    """Where nothing is kept, a reader does not go on with a hole: it ends, and says why."""
    async with pipe.Server(place.verbs._way.again(), lambda _: None, reconnect=False) as other:  # type: ignore[attr-defined]  # noqa: SLF001, SIM117
        async with other.pipe("x") as stream, place.verbs.subscribe("x") as reader:
            await place.wait_members("x", 2)
            await stream.write(b"before")
            assert await soon(anext(reader)) == b"before"
            cut(place)
            with pytest.raises(pipe.ConnectionLost):
                await soon(anext(reader))


@contextlib.asynccontextmanager
async def two_pipes(place: Place) -> AsyncIterator[tuple[pipe.Duplex, pipe.Duplex]]:
    """One whose connection is cut, and one of somebody else."""
    other = pipe.Server(place.verbs._way.again(), lambda _: None, reconnect=False)  # type: ignore[attr-defined]  # noqa: SLF001
    async with other, other.pipe("tea") as theirs, place.verbs.pipe("tea") as ours:
        await place.wait_members("tea", 2)
        yield ours, theirs


def was_lost(place: Place) -> int:
    """How often it was told that something is lost."""
    return place.told.count("what came meanwhile is lost, and what was on its way")


async def wait_lost(place: Place, count: int = 1) -> None:
    """Wait until that was told so often."""
    await place.until(lambda: was_lost(place) == count)


async def test_pipe_joins_again(place: Place) -> None:
    """A pipe that waits for something to read is back after a lost connection, both ways."""
    async with two_pipes(place) as (ours, theirs):
        for number in range(3):
            reading = asyncio.create_task(anext(ours))
            await asyncio.sleep(0)
            cut(place)
            await wait_lost(place, number + 1)
            await theirs.write(b"to us")
            assert await soon(reading) == b"to us"
            await soon(ours.write(b"from us"))
            assert await soon(anext(theirs)) == b"from us"


async def test_pipe_that_only_writes_joins_again(place: Place) -> None:
    """So is one that is not reading; nothing that it writes is there twice."""
    async with two_pipes(place) as (ours, theirs):
        cut(place)
        written = 0
        while not was_lost(place):
            await soon(ours.write(b"%d\n" % written))
            await asyncio.sleep(0)
            written += 1
        await soon(ours.write(b"end\n"))
        got = b""
        while not got.endswith(b"end\n"):
            got += await soon(anext(theirs))
        lines = got.splitlines()
        assert len(set(lines)) == len(lines)


async def test_pipe_that_has_written_all_joins_as_a_reader(place: Place) -> None:
    """Its end of file holds for the new connection as well."""
    async with two_pipes(place) as (ours, theirs):
        await ours.write_eof()
        reading = asyncio.create_task(ours.read())
        await asyncio.sleep(0)
        cut(place)
        await wait_lost(place)
        await theirs.write(b"the rest")
        await theirs.write_eof()
        assert await soon(reading) == b"the rest"


async def test_pipe_is_left_while_it_tries_again(place: Place, tmp_path: Path) -> None:
    """A program that leaves in the meantime is not held up, and not brought back."""
    async with place.verbs.pipe("tea") as stream:
        await place.wait_members("tea", 1)
        (tmp_path / "known_hosts").unlink()
        place.verbs._way._options["port"] = 1  # type: ignore[attr-defined]  # noqa: SLF001
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        cut(place)
        await place.until(lambda: any("trying again in" in line for line in place.told))
        reading.cancel()
        await soon(stream.aclose())
    await place.wait_members()
    assert not was_lost(place)


async def test_restart(tmp_path: Path) -> None:
    """A reader that stays, and a writer, live through a restart; what is lost is told."""
    port = free_port()
    async with serving(tmp_path, port=port) as service:
        url, options = credentials(service, tmp_path)
        told: list[str] = []
        server = pipe.connect(url, reconnect=True, on_status=told.append, **options)
        await server.__aenter__()
        reader = server.subscribe("log", keep_alive=True)
        await reader.__aenter__()
        writer = server.publish("log", block=False)
        stream = await writer.__aenter__()
        await stream.write(b"before")
        assert await soon(anext(reader)) == b"before"
    reading = asyncio.create_task(anext(reader))
    while not any("trying again in" in line for line in told):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.005)
    async with serving(tmp_path, port=port) as service:
        place = Place(server, service.router, told)
        await place.wait_members("log", 2)
        await soon(stream.write(b"after"))
        assert await soon(reading) == b"after"
        await soon(reader.aclose())
        await soon(writer.aclose())
        await place.wait_members()
        await server.__aexit__(None, None, None)
    assert "what came meanwhile is lost" in told
    assert "a new stream begins: what was on its way is lost" in told


def test_delays_grow_and_are_left_to_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait is at most twice as long as the one before, up to a bound."""
    monkeypatch.setattr(resume, "FIRST_SECONDS", 1.0)
    found = [delay for delay, _ in zip(resume.delays(), range(10), strict=False)]
    for number, delay in enumerate(found):
        longest = min(2.0**number, resume.LONGEST_SECONDS)
        assert longest / 2 <= delay <= longest


async def test_who_is_not_let_in_does_not_try_again(place: Place, tmp_path: Path) -> None:
    """Only what may pass is tried again."""
    way = place.verbs._way  # type: ignore[attr-defined]  # noqa: SLF001
    (tmp_path / "known_hosts").write_text("")
    async with pipe.Server(way.again(), lambda _: None, reconnect=True) as server:
        with pytest.raises(pipe.LoginRefused):
            await soon(server.subscribe("x").read())


async def test_reader_goes_on_over_http() -> None:
    """The same over HTTP, where each stream has a connection of its own."""
    async with serving_http() as served:
        server = pipe.connect(served.url, token="token-alice", reconnect=True)
        other = pipe.connect(served.url, token="token-alice")
        async with server, other.publish("film", block=False, keep="1MiB", linger=60) as stream:
            await stream.write(b"before")
            async with server.subscribe("film", from_=0) as reader:
                assert await soon(anext(reader)) == b"before"
                for session in served.members():
                    if session.member.sink:
                        session._front.transport.abort()  # noqa: SLF001
                await stream.write(b"after")
                assert await soon(anext(reader)) == b"after"
                ending = asyncio.create_task(reader.read())
                await stream.__aexit__(None, None, None)
                assert await soon(ending) == b""
        async with other.publish("film", block=False, keep=1):
            pass


async def test_pipe_joins_again_over_http() -> None:
    """So does a pipe, whether its reader notices first or its writer."""
    told: list[str] = []
    async with serving_http() as served:
        server = pipe.connect(
            served.url, token="token-alice", reconnect=True, on_status=told.append
        )
        other = pipe.connect(served.url, token="token-alice")
        async with server, other.pipe("tea") as theirs:
            [first] = served.members()
            async with server.pipe("tea") as ours:
                for losses, reads in ((1, True), (2, False)):
                    reading = asyncio.create_task(anext(ours)) if reads else None
                    await asyncio.sleep(0)
                    [session] = [one for one in served.members() if one is not first]
                    session._front.transport.abort()  # noqa: SLF001
                    while sum("meanwhile is lost" in line for line in told) < losses:
                        await soon(ours.write(b"x"))
                        await asyncio.sleep(0)
                    await theirs.write(b"to us")
                    assert await soon(reading or anext(ours)) == b"to us"


async def test_pipe_whose_end_of_file_is_not_taken_joins_again_over_http() -> None:
    """It may be the end of file that finds out; no program is told of that."""
    told: list[str] = []
    async with serving_http() as served:
        server = pipe.connect(
            served.url, token="token-alice", reconnect=True, on_status=told.append
        )
        other = pipe.connect(served.url, token="token-alice")
        async with server, other.pipe("tea") as theirs:
            [first] = served.members()
            async with server.pipe("tea") as ours:
                [session] = [one for one in served.members() if one is not first]
                session._front.transport.abort()  # noqa: SLF001
                opened: Any = ours._opened  # noqa: SLF001
                transport = opened._link._socket._writer.transport  # noqa: SLF001
                await served.until(transport.is_closing, "the loss")
                await soon(ours.write_eof())
                assert sum("meanwhile is lost" in line for line in told) == 1
                await served.wait_members(2)
                await theirs.write(b"to us")
                await theirs.write_eof()
                assert await soon(ours.read()) == b"to us"


LOST = End(Outcome.CUT, Outcome.CUT.status, "the connection to the server is lost", lost=True)


class Broken:
    """A link over which something comes before it breaks, or ends well."""

    def __init__(self, line: str, data: bytes, end: End = LOST) -> None:
        self.lines = Lines()
        self.lines.feed(line.encode())
        self._data = data
        self._end = end

    async def receive(self) -> bytes:
        """Return it, and then nothing."""
        data, self._data = self._data, b""
        return data

    async def wait_end(self) -> End:
        """How it ends."""
        return self._end

    async def abort(self) -> None:
        """It is over."""


class Way:
    """A server over whose links little comes."""

    holds = True

    def __init__(self, *links: Broken) -> None:
        self._links = iter(links)
        self.asked: list[Any] = []

    async def open(self, request: object) -> Broken:
        """The next one.

        Raises:
            LoginRefused: there is none.
        """
        self.asked.append(request)
        for link in self._links:
            return link
        raise LoginRefused("the token is not valid any more")


async def read_all(way: Way, request: Subscribe) -> list[bytes]:
    """Read to the end."""
    anyway: Any = way
    reading = resume.Reading(anyway, request, lambda _: None)
    await reading.begin()
    pieces = []
    while data := await reading.receive():
        pieces.append(data)
    assert (await reading.wait_end()).error() is None
    return pieces


@pytest.mark.parametrize("stays", [False, True])
async def test_connection_that_breaks_before_the_first_byte(stays: bool) -> None:
    """Where a reader is stays known, although the server has not said where it goes on."""
    way = Way(
        Broken("pipe: begins with byte 5 of stream s1\n", b"one"),
        Broken("", b""),
        Broken("pipe: begins with byte 8 of stream s1\n", b"two", End(Outcome.DONE)),
    )
    assert await read_all(way, Subscribe("build", keep_alive=stays)) == [b"one", b"two"]
    assert [(one.offset, one.stream) for one in way.asked[1:]] == 2 * [(8, "s1")]


async def test_first_connection_that_breaks_at_once() -> None:
    """A reader that has had nothing asks again to be told where it begins."""
    way = Way(Broken("", b""), Broken("", b"all", End(Outcome.DONE)))
    assert await read_all(way, Subscribe("build")) == [b"all"]
    assert [one.last for one in way.asked] == 2 * [Last(0)]


@pytest.mark.parametrize("past", [{"last": Last(9)}, {"offset": 0}])
async def test_past_comes_once(past: dict[str, Any]) -> None:
    """A reader that loses bytes anyway does not get the past again that it has had."""
    way = Way(Broken("", b"old"), Broken("", b"new", End(Outcome.DONE)))
    request = Subscribe("build", keep_alive=True, on_slow=OnSlow.DROP, **past)
    assert await read_all(way, request) == [b"old", b"new"]
    assert (way.asked[1].last, way.asked[1].offset) == (None, None)


async def test_login_that_is_refused_later() -> None:
    """A reader that is not let in again has lost its connection, as a writer has."""
    anyway: Any = Way(Broken("pipe: begins with byte 0 of stream s1\n", b"one"))
    reading = resume.Reading(anyway, Subscribe("build"), lambda _: None)
    await reading.begin()
    assert [await reading.receive(), await reading.receive()] == [b"one", b""]
    with pytest.raises(pipe.ConnectionLost, match="not valid any more"):
        (await reading.wait_end()).check()


class Deaf(Broken):
    """A link that is lost once an end of file is to be sent."""

    async def send_eof(self) -> None:
        """It is not sent.

        Raises:
            ConnectionLost: always.
        """
        raise ConnectionLost("the connection to the server is lost")


class Hearing(Broken):
    """A link that takes an end of file."""

    heard = False

    async def send_eof(self) -> None:
        """Take it."""
        self.heard = True


async def test_end_of_file_that_is_lost_again_and_again() -> None:
    """A pipe joins until its end of file is taken, and reads on."""
    last = Hearing("", b"the rest", End(Outcome.DONE))
    anyway: Any = Way(Deaf("", b""), Deaf("", b"a part"), last)
    talking = resume.Talking(anyway, Pipe("tea"), lambda _: None)
    await talking.begin()
    await talking.send_eof()
    assert [await talking.receive() for _ in range(3)] == [b"a part", b"the rest", b""]
    assert last.heard
    assert (await talking.wait_end()).error() is None
