"""What the verbs do, wherever their topics are: one suite for the broker and both clients."""

from __future__ import annotations

import asyncio
import hashlib
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

import pipe
from tests.library.places import soon

if TYPE_CHECKING:
    from tests.library.places import Place

MIB = 1 << 20


async def publish(place: Place, topic: str, *pieces: bytes, **options: Any) -> pipe.Receipt:  # noqa: ANN401
    """Publish some pieces, and return the receipt."""
    writer = place.verbs.publish(topic, **options)
    async with writer as stream:
        for piece in pieces:
            await stream.write(piece)
    assert writer.receipt
    return writer.receipt


async def test_bytes_and_receipt(place: Place) -> None:
    """Every reader gets every byte, however large the stream is, and the receipt says so."""
    data = Random(1).randbytes(3 * MIB)
    readers = [asyncio.create_task(place.verbs.subscribe("build").read()) for _ in range(2)]
    await place.wait_members("build", 2)

    receipt = await soon(publish(place, "build", data[:1], data[1:MIB], data[MIB:]))

    assert receipt == pipe.Receipt(len(data), 2, 0)
    for read in await soon(asyncio.gather(*readers)):
        assert hashlib.sha256(read).digest() == hashlib.sha256(data).digest()


async def test_publisher_waits_for_readers(place: Place) -> None:
    """Nothing is taken before as many readers are there as it asked for."""
    writer = asyncio.create_task(publish(place, "build", b"x" * 100, min_subscribers=2))
    first = asyncio.create_task(place.verbs.subscribe("build").read())
    await place.wait_members("build", 2)
    assert (await soon(place.verbs.topics("build")))[0].in_bytes == 0

    second = asyncio.create_task(place.verbs.subscribe("build").read())

    assert (await soon(writer)).subscribers == 2
    assert await soon(first) == await soon(second) == b"x" * 100


async def test_nobody_comes(place: Place) -> None:
    """A publisher gives up after its timeout."""
    with pytest.raises(pipe.TimedOut, match="gave up: 1 subscriber still missing") as error:
        await soon(publish(place, "build", b"x", timeout=0.05))
    assert error.value.exit_status == 75


async def test_nobody_need_be_there(place: Place) -> None:
    """Without blocking it sends to nobody."""
    assert await soon(publish(place, "build", b"x", block=False)) == pipe.Receipt(1, 0, 0)


async def test_empty_stream(place: Place) -> None:
    """A stream without a byte lets those who wait go on."""
    reader = asyncio.create_task(place.verbs.subscribe("build").read())
    assert (await soon(publish(place, "build"))).sent_bytes == 0
    assert await soon(reader) == b""


async def test_broken_stream(place: Place) -> None:
    """A publisher whose block is left by an error has broken its stream for its readers."""
    reader = asyncio.create_task(place.verbs.subscribe("build").read())

    async def fail() -> None:
        async with place.verbs.publish("build") as stream:
            await stream.write(b"half")
            await place.until(lambda: place.router.statistics().received_chunks)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await soon(fail())
    with pytest.raises(pipe.Broken, match="vanished before its end of file") as error:
        await soon(reader)
    assert error.value.exit_status == 74


async def test_status_of_publisher(place: Place) -> None:
    """Readers end with the status that the publisher leaves, after all its bytes."""
    stream = place.verbs.subscribe("build")
    read: list[bytes] = []

    async def take() -> None:
        async for piece in stream:
            read.append(piece)  # noqa: PERF401 - it raises in between

    reader = asyncio.create_task(take())
    await soon(publish(place, "build", b"bytes", exit_status=3))
    with pytest.raises(pipe.PublisherFailed, match="status 3") as error:
        await soon(reader)
    assert error.value.exit_status == 3
    assert b"".join(read) == b"bytes"


async def test_reader_that_leaves(place: Place) -> None:
    """A reader that leaves early has not confirmed anything, and the publisher is told."""
    writer = asyncio.create_task(publish(place, "build", b"x" * 10 * MIB))
    async with place.verbs.subscribe("build") as stream:
        assert await soon(anext(stream))
    await place.wait_members("build", 1)

    assert await soon(place.verbs.subscribe("build").read())
    receipt = await soon(writer)
    assert (receipt.subscribers, receipt.left_early) == (2, 1)


async def test_reader_that_does_not_look_at_the_end(place: Place) -> None:
    """Who leaves before the last piece was dealt with has confirmed nothing, though it arrived."""
    writer = asyncio.create_task(publish(place, "build", b"x"))
    async with place.verbs.subscribe("build") as stream:
        assert await soon(anext(stream)) == b"x"
        await place.until(lambda: all(one.ended for one in place.members("build") if one.source))
    with pytest.raises(pipe.Undelivered, match="all readers left early") as error:
        await soon(writer)
    assert error.value.receipt == pipe.Receipt(1, 1, 1)


async def test_backpressure(place: Place) -> None:
    """A publisher goes on no faster than its slowest reader."""
    written = 0

    async def write() -> None:
        nonlocal written
        async with place.verbs.publish("build") as stream:
            for _ in range(64):
                await stream.write(bytes(MIB))
                written += 1

    writer = asyncio.create_task(write())
    async with place.verbs.subscribe("build") as stream:
        size = len(await soon(anext(stream)))
        await place.until(lambda: place.router.statistics().clogged_subscribers)
        assert written < 32
        async for piece in stream:
            size += len(piece)
    assert size == 64 * MIB
    await soon(writer)


async def test_late_reader(place: Place) -> None:
    """A reader that wants the whole stream comes too late, and one that does not gets the rest."""
    async with place.verbs.publish("build", block=False) as stream:
        await stream.write(b"before")
        await place.until(lambda: place.router.statistics().received_chunks)
        with pytest.raises(pipe.TooLate, match="6 bytes went by before") as error:
            await soon(place.verbs.subscribe("build", whole=True).read())
        assert error.value.exit_status == 75
        reader = asyncio.create_task(place.verbs.subscribe("build").read())
        await place.wait_members("build", 2)
        await stream.write(b"after")
    assert await soon(reader) == b"after"


async def test_late_reader_of_a_whole_stream(place: Place) -> None:
    """Nobody gets only the rest of it, whatever they ask for."""
    asked: tuple[dict[str, Any], ...] = ({}, {"last": 1}, {"from_": 0}, {"keep_alive": True})
    async with place.verbs.subscribe("build") as reader:
        async with place.verbs.publish("build", whole=True) as stream:
            await stream.write(b"be")
            assert await soon(anext(reader)) == b"be"
            for options in asked:
                with pytest.raises(pipe.TooLate):
                    await soon(place.verbs.subscribe("build", **options).read())
            await stream.write(b"gun")
            rest = asyncio.create_task(reader.read())
        assert await soon(rest) == b"gun"


async def test_whole_stream_without_readers(place: Place) -> None:
    """A stream that nobody may have in part breaks with its last reader."""
    async with place.verbs.subscribe("build") as reader:
        writer = asyncio.create_task(publish(place, "build", b"x" * 32 * MIB, whole=True))
        await soon(anext(reader))
    with pytest.raises(pipe.Broken, match="no subscriber left"):
        await soon(writer)


async def test_pattern(place: Place) -> None:
    """A reader on a pattern reads topics that come later, and stays."""
    got: list[bytes] = []

    async def take(stream: pipe.Reader) -> None:
        async for piece in stream:
            got.append(piece)  # noqa: PERF401 - it is looked at in between

    async with place.verbs.subscribe("build.*") as stream:
        reader = asyncio.create_task(take(stream))
        assert (await soon(publish(place, "build.linux", b"one"))).subscribers == 1
        await soon(publish(place, "test.linux", b"other", block=False))
        assert (await soon(publish(place, "build.mac", b"two"))).subscribers == 1
        await place.until(lambda: got == [b"one", b"two"])
        reader.cancel()


async def test_round_robin_by_lines(place: Place) -> None:
    """Each line goes to one reader, whole, however it was written."""
    readers = [asyncio.create_task(place.verbs.subscribe("jobs").read()) for _ in range(2)]
    await place.wait_members("jobs", 2)
    options = {"dispatch": "round_robin", "frame": "line", "min_subscribers": 2}
    await soon(publish(place, "jobs", b"one\ntwo\nth", b"ree\nfour", **options))
    got = [(await soon(reader)).split() for reader in readers]
    assert sorted(got) == [[b"one", b"three"], [b"two", b"four"]]


async def test_record_that_is_too_long(place: Place) -> None:
    """A record has a bound, and going over it ends the stream with one line."""
    reader = asyncio.create_task(place.verbs.subscribe("jobs").read())
    with pytest.raises(pipe.UsageError, match="a record is longer than 1048576 bytes") as error:
        await soon(publish(place, "jobs", *[bytes(MIB)] * 4, frame="line"))
    assert error.value.exit_status == 64
    with pytest.raises(pipe.Broken):
        await soon(reader)


async def test_drop(place: Place) -> None:
    """A reader that asked for it misses what it has no room for, and is told how much."""
    async with place.verbs.subscribe("build", on_slow="drop") as stream:
        writer = asyncio.create_task(publish_until_dropped(place))
        await place.until(lambda: place.router.statistics().dropped_bytes)
        with pytest.raises(pipe.Dropped, match="this reader fell behind") as error:
            async for _ in stream:
                pass
        await soon(writer)
    assert error.value.exit_status == 75


async def publish_until_dropped(place: Place) -> None:
    """Publish until a reader has missed something."""
    async with place.verbs.publish("build") as stream:
        while not place.router.statistics().dropped_bytes:
            await stream.write(bytes(MIB // 4))
            await asyncio.sleep(0)


async def test_disconnect(place: Place) -> None:
    """A reader that asked for it is cut off when it falls behind."""
    async with place.verbs.subscribe("build", on_slow="disconnect") as stream:
        writer = asyncio.create_task(publish(place, "build", *[bytes(MIB)] * 40, block=False))
        with pytest.raises(pipe.Undelivered):
            await soon(writer)
        with pytest.raises(place.cut):
            async for _ in stream:
                pass


async def test_past(place: Place) -> None:
    """A late reader gets what is kept: so many bytes or lines, or from a byte on."""
    await soon(publish(place, "log", b"one\ntwo\nthree\n", block=False, keep="64KiB", linger=60))
    assert await soon(place.verbs.subscribe("log", last="2l").read()) == b"two\nthree\n"
    assert await soon(place.verbs.subscribe("log", last=6).read()) == b"three\n"
    assert await soon(place.verbs.subscribe("log", from_=4).read()) == b"two\nthree\n"
    with pytest.raises(pipe.TooLate, match="byte 99 has not come"):
        await soon(place.verbs.subscribe("log", from_=99).read())
    with pytest.raises(pipe.TooLate, match=r"stream abc of .* is gone"):
        await soon(place.verbs.subscribe("log", from_=0, stream="abc").read())
    await soon(publish(place, "log", block=False, keep=1))  # what lingers ends with it


async def test_pipe(place: Place) -> None:
    """A pipe reads what others write, and does not hear itself unless it asks to."""
    async with place.verbs.pipe("chat") as alice, place.verbs.pipe("chat", replay=True) as bob:
        await alice.write(b"hi")
        assert await soon(anext(bob)) == b"hi"
        await bob.write(b"hello")
        assert await soon(anext(bob)) == b"hello"
        assert await soon(anext(alice)) == b"hello"
        await alice.write_eof()
        await bob.write_eof()
        assert await soon(bob.read()) == b""
        assert await soon(alice.read()) == b""


async def test_access(place: Place) -> None:
    """Others may join while a stream is there that names them; its owner always may."""
    assert place.as_bob
    readers = [asyncio.create_task(place.verbs.subscribe("build").read())]
    await place.wait_members("build", 1)
    async with place.as_bob() as other:
        async with place.verbs.publish("build", min_subscribers=2, access="bob, @users") as stream:
            name = (await soon(place.verbs.topics("build")))[0].name
            readers.append(asyncio.create_task(other.subscribe(name).read()))
            await soon(stream.write(b"shared"))
        assert await soon(asyncio.gather(*readers)) == [b"shared"] * 2
        if not isinstance(place.verbs, pipe.Broker):
            with pytest.raises(pipe.AccessDenied, match="build is not shared with you"):
                await soon(other.subscribe(name).read())


async def test_access_of_readers(place: Place) -> None:
    """A reader and a pipe share their topic as well."""
    assert place.as_bob
    async with place.as_bob() as other:
        for opened in (
            place.verbs.subscribe("build", access=["carol", "bob"]),
            place.verbs.pipe("build", access=("@users",)),
        ):
            async with opened as stream:
                name = (await soon(place.verbs.topics("build")))[0].name
                writer = asyncio.create_task(write(other.publish(name)))
                if isinstance(stream, pipe.Duplex):
                    await stream.write_eof()
                assert await soon(stream.read()) == b"back"
                await soon(writer)
            await place.wait_members()


async def write(writer: pipe.Writer) -> None:
    """Write a stream of one piece."""
    async with writer as stream:
        await stream.write(b"back")


async def test_topics(place: Place) -> None:
    """What is there can be listed."""
    async with place.verbs.pipe("one"), place.verbs.pipe("two"):
        found = await soon(place.verbs.topics())
        assert sorted(topic.name.partition("/")[2] for topic in found) == ["one", "two"]
        only = await soon(place.verbs.topics("tw*"))
        assert [(topic.pipes, topic.subscribers) for topic in only] == [(1, 0)]
    await place.wait_members()
    assert await soon(place.verbs.topics()) == []


@pytest.mark.parametrize(
    ("topic", "options", "message"),
    [
        ("a b", {}, "topic name 'a b' has ' ' in it"),
        ("x", {"min_subscribers": 0}, "flag --min-subs has the value '0'"),
        ("x", {"whole": True, "block": False}, "--whole needs readers to wait for"),
        ("x", {"dispatch": "some"}, "it takes multicast or round_robin"),
        ("x", {"keep": "much"}, "this is not a size"),
        ("x", {"linger": 3}, "--linger needs something to keep"),
        ("x", {"access": []}, "the list has an empty entry"),
    ],
)
async def test_wrong_options(
    place: Place, topic: str, options: dict[str, object], message: str
) -> None:
    """What cannot be understood is told in the words of the commands."""
    with pytest.raises(pipe.UsageError, match=message) as error:
        await soon(publish(place, topic, **options))
    assert error.value.exit_status == 64


async def test_pattern_takes_no_whole(place: Place) -> None:
    """A reader of a pattern can have neither the whole nor the past, and shares nothing."""
    everything: tuple[dict[str, Any], ...] = ({"whole": True}, {"last": 1}, {"access": "bob"})
    for options in everything:
        with pytest.raises(pipe.UsageError, match="for one topic, not for a pattern"):
            await soon(place.verbs.subscribe("a*", **options).read())


async def test_forgotten_reader(place: Place) -> None:
    """A loop that is left early leaves its topic with the iterator."""
    writer = asyncio.create_task(publish(place, "build", b"x" * 8 * MIB))

    async def look() -> None:
        async for _ in place.verbs.subscribe("build"):
            break

    await soon(look())
    assert await soon(place.verbs.subscribe("build").read())
    assert (await soon(writer)).left_early == 1


async def test_writing_after_the_end(place: Place) -> None:
    """What is written when the stream is over is refused."""
    writer = place.verbs.publish("build", block=False)
    async with writer as stream:
        await stream.write(b"x")
    with pytest.raises(pipe.PipeError):
        await soon(writer.write(b"y"))


async def test_cancelled_writer(place: Place) -> None:
    """A writer whose task is cancelled breaks its stream, and is gone."""
    reader = asyncio.create_task(place.verbs.subscribe("build").read())
    await place.wait_members("build", 1)

    async def write() -> None:
        async with place.verbs.publish("build") as stream:
            await stream.write(b"x")
            await asyncio.Event().wait()

    writer = asyncio.create_task(write())
    await place.until(lambda: place.router.statistics().received_chunks)
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(writer)
    with pytest.raises(pipe.Broken):
        await soon(reader)
