"""WebSockets: both directions, frames, status, ends; the client is `websockets`."""

from __future__ import annotations

import asyncio
import base64 as encoding
import contextlib
import json
import socket
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipe.chat.room import BURST_LINES
from pipe.errors import Outcome
from pipe.web import streams
from pipe.web.link import beating
from tests.e2e.processes import DEADLINE

from .served import HOST, Served, request_head

if TYPE_CHECKING:
    from collections.abc import Callable


KIB = 1 << 10
MIB = 1 << 20


def join(served: Served, path: str, user: str = "alice", **options: Any) -> connect:  # noqa: ANN401
    """Open a WebSocket."""
    return connect(
        f"ws://{HOST}:{served.port}/pipe/{path}",
        additional_headers={"Authorization": f"Bearer token-{user}"},
        max_size=None,
        compression=None,
        **options,
    )


async def rest_of(socket: ClientConnection) -> list[Any]:
    """Read all frames to the end, whatever that is."""
    frames: list[Any] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            frames.append(await socket.recv())
    return frames


async def close_code(socket: ClientConnection) -> int | None:
    """Read to the end, and return how it was closed."""
    await rest_of(socket)
    return socket.close_code


async def test_two_talk(served: Served) -> None:
    """Two pipes hear each other, frame by frame, and the one's end is not the other's."""
    async with join(served, "room") as one, join(served, "room") as two:
        await served.wait_members(2)
        await one.send(b"\x00\xffhello")
        assert await two.recv() == b"\x00\xffhello"
        await two.send("text")
        assert await one.recv() == b"text"
        await one.close()
        await served.wait_members(1)
        await two.send(b"still here")


async def test_a_chat_is_events_one_way_and_lines_the_other(served: Served) -> None:
    """In the room of `chat`: the server says whose a line is, whatever a raw pipe claims."""
    options = "mode=chat&json=true&format=text"
    async with (
        join(served, f"public/tea?{options}") as chat,
        join(served, "public/tea", "bob") as raw,
    ):
        await served.wait_members(2)
        await raw.send(b"alice: I owe you\n")
        event = {"type": "message", "user": "bob", "name": "bob", "text": "alice: I owe you"}
        assert json.loads(await chat.recv()) == event
        await chat.send("hello\n")
        assert await raw.recv() == b"alice: hello\n"


async def test_one_who_floods_a_chat_is_cut_short(served: Served) -> None:
    """What he sends beside a chat is left out and counted, and others are heard meanwhile."""
    options = "mode=chat&json=true&format=text"
    async with (
        join(served, f"public/tea?{options}") as alice,
        join(served, "public/tea", "mallory") as raw,
        join(served, f"public/tea?{options}", "bob") as bob,
    ):
        await served.wait_members(3)
        for _ in range(20):
            await raw.send(b"noise\n" * 5_000)
        await bob.send("still here\n")
        text = ""
        while "still here" not in text:
            text += str(await alice.recv())
        assert text.count("noise") <= BURST_LINES
        assert "mallory sends too much: lines are left out" in text


async def test_replay(served: Served) -> None:
    """With replay one hears oneself."""
    async with join(served, "room?replay=true") as socket:
        await socket.send(b"echo")
        assert await socket.recv() == b"echo"


async def test_text_frames_end_at_characters(served: Served) -> None:
    """In text format no character is cut, however the stream is."""
    async with join(served, "room?mode=sub&format=text&persist=1") as reader:
        async with join(served, "room?mode=pub&block=false") as writer:
            word = "größe".encode()
            for index in range(len(word)):
                await writer.send(word[index : index + 1])
            text = ""
            while text != "größe":
                text += str(await reader.recv())
            await writer.send(b"\xff")
            assert await reader.recv() == "�"
        await reader.close()


async def test_publish_read_and_status(served: Served) -> None:
    """With status a publisher hears that it waits, gives its end of file, and has a receipt."""
    async with join(served, "build?mode=pub&status=true") as writer:
        notes = [json.loads(await writer.recv()) for _ in range(2)]
        assert {"waiting": 1} in notes
        await writer.send(b"x" * 300 * KIB)
        async with join(served, "build?mode=sub&status=true") as reader:
            await writer.send('{"eof":true}')
            size = 0
            while not isinstance(frame := await reader.recv(), str):
                size += len(frame)
            assert size == 300 * KIB
            assert json.loads(frame) == {"end": {"outcome": "done", "status": 0, "message": "done"}}
            assert await close_code(reader) == 1000
        rest = [json.loads(frame) for frame in await rest_of(writer)]
        assert {"waiting": 0} in rest
        receipt = {"bytes": 300 * KIB, "subscribers": 1, "left_early": 0}
        assert {"receipt": receipt} in rest
        assert rest[-1]["end"]["status"] == 0
        assert writer.close_code == 1000


async def test_close_is_an_end_of_file_and_a_crash_is_none(served: Served) -> None:
    """Close 1000 ends a stream; any other end breaks it."""
    for rude, status, whole in ((False, 200, True), (True, 200, False)):
        reader = await served.request("GET", "/topic/build")
        await served.wait_members(1)
        async with join(served, "build?mode=pub") as writer:
            await writer.send(b"some")
            assert (await reader.head())[0] == status
            assert await reader.chunk() == b"some"
            if rude:
                writer.transport.abort()
            else:
                await writer.close()
            assert (await reader.chunk() == b"") is whole
        await served.wait_members(0)


async def test_close_codes(served: Served) -> None:
    """The code is 4000 and the exit status, 1001 at a stop."""
    async with join(served, "build?mode=sub") as reader:
        await served.wait_members(1)
        await served.ask("PUT", "/topic/build?exit=3", b"abc")
        assert await close_code(reader) == 4003
    async with join(served, "build?mode=sub") as reader:
        await served.wait_members(1)
        writer = await served.connect()
        await writer.send(request_head("PUT", "/topic/build", 100) + b"abc")
        assert await reader.recv() == b"abc"
        writer.reset()
        assert await close_code(reader) == 4074
    async with join(served, "build?mode=sub") as reader:
        await served.wait_members(1)
        for session in list(served.service.sessions):
            session.cut(Outcome.SHUTDOWN)
        assert await close_code(reader) == 1001


async def test_refusals_come_before_the_upgrade(served: Served) -> None:
    """What is refused is refused with a status, not with a WebSocket that closes."""
    cases: list[tuple[str, str, int]] = [
        ("bob/room", "alice", 403),
        ("bob/room?mode=chat", "alice", 403),
        ("room?mode=shout", "alice", 400),
        ("room?mode=sub&replay=1", "alice", 400),
        ("room?status=1&format=text", "alice", 400),
    ]
    for path, user, status in cases:
        with pytest.raises(InvalidStatus) as caught:
            await join(served, path, user)
        assert caught.value.response.status_code == status
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://{HOST}:{served.port}/pipe/room")
    assert caught.value.response.status_code == 401


async def test_token_as_subprotocol(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A page, which can set no header, shows its token as a subprotocol; none is logged."""
    url = f"ws://{HOST}:{served.port}/pipe/room?replay=1"
    async with connect(url, subprotocols=["pipe", "token-alice"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "pipe"
        await socket.send(b"x")
        assert await socket.recv() == b"x"
    with pytest.raises(InvalidStatus):
        await connect(url, subprotocols=["token-alice"])  # type: ignore[list-item]
    assert "token-alice" not in caplog.text


async def test_waiting_publisher_answers_pings(served: Served) -> None:
    """A publisher that waits is paused, and yet its client's pings are answered."""
    async with join(served, "build?mode=pub") as writer:
        await writer.send(b"early")
        pong = await writer.ping()
        await asyncio.wait_for(pong, DEADLINE)
        reader = await served.request("GET", "/topic/build")
        assert (await reader.head())[0] == 200
        await writer.close()
        assert [await reader.chunk(), await reader.chunk()] == [b"early", b""]


async def test_paused_publisher_is_read_ahead_a_little(served: Served) -> None:
    """What a paused publisher sends waits here up to a window, and then with the client."""
    writer = await join(served, "build?mode=pub", write_limit=64 * KIB)
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while True:
            await writer.send(b"z" * 64 * KIB)
            sent += 64 * KIB

    pouring = asyncio.create_task(pour())
    await served.until(lambda: len(served.server.parts.hangups) == 1, "a watch")
    assert sent >= served.service.settings.window - 64 * KIB
    pouring.cancel()
    writer.transport.abort()
    await asyncio.gather(pouring, return_exceptions=True)
    # Its kernel keeps its goodbye behind what it could not send; whoever reads gets a broken end.
    reader = await served.ask("GET", "/topic/build?timeout=5s")
    assert not reader.whole or reader.status != 200
    await served.wait_members(0)


async def test_messages_that_are_too_long_break_the_stream(served: Served) -> None:
    """A message has at most 1 MiB."""
    async with join(served, "build?mode=pub&block=false") as writer:
        await writer.send(b"x" * (MIB + 1))
        assert await close_code(writer) == 1009


async def test_many_kinds_of_readers_get_the_same(served: Served) -> None:
    """A WebSocket, a GET and events beside each other read the same stream."""
    data = bytes(range(256)) * 2000
    plain = await served.request("GET", "/topic/build")
    events = await served.request("GET", "/topic/build?format=sse&encoding=base64")
    async with join(served, "build?mode=sub") as socket:
        await served.wait_members(3)
        sent = asyncio.create_task(served.ask("PUT", "/topic/build", data))
        assert b"".join(await rest_of(socket)) == data
        assert (await plain.response()).body == data
        assert decode_events((await events.response()).text, base64=True) == data
        assert (await sent).text == f"sent {len(data)} bytes to 3 subscribers\n"


def decode_events(text: str, *, base64: bool = False) -> bytes:
    """Read events as an EventSource does, and put the stream together."""
    out = b""
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if any(line.startswith("event:") for line in lines):
            continue
        data = "\n".join(line[6:] for line in lines if line.startswith("data: "))
        decode: Callable[[str], bytes] = encoding.b64decode if base64 else str.encode
        out += decode(data)
    return out


async def test_who_hangs_up_without_a_close_has_confirmed_nothing(served: Served) -> None:
    """The close is the confirmation, not that all was sent: the publisher is told."""
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    reader = await served.request("GET", "/pipe/room?mode=sub", headers=handshake)
    assert (await reader.head())[0] == 101
    await served.wait_members(1)
    answer = asyncio.create_task(served.ask("PUT", "/topic/room", b"bytes"))
    frames = b"\x82\x05bytes\x88\x06\x03\xe8done"
    assert await reader.reader.readexactly(len(frames)) == frames
    reader.reset()
    assert (await answer).status == 502


async def test_beats_do_not_cut_off_who_reads_late(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is full at many a beat loses nothing, and its close says how it ended."""
    monkeypatch.setattr(streams.socket, "beating", lambda _, beat: beating(BEAT, beat))
    data = Random(4).randbytes(LATE_BYTES)
    connection = await narrow(served)
    async with join(served, "build?mode=sub&status=true", sock=connection, max_queue=1) as reader:
        await served.wait_members(1)
        writer = asyncio.create_task(served.ask("PUT", "/topic/build", data))
        await full_for_beats(served)
        *pieces, end = await asyncio.wait_for(rest_of(reader), DEADLINE)
        assert b"".join(pieces) == data
        assert json.loads(end)["end"]["outcome"] == "done"
        assert reader.close_code == 1000
        assert (await writer).text == f"sent {len(data)} bytes to 1 subscriber\n"


LATE_BYTES = 16 * MIB
"""More than the kernel keeps for a reader that does not read."""

BEAT = 0.02
"""Seconds between two beats."""


async def narrow(served: Served) -> socket.socket:
    """Connect so that the kernel keeps little of what is not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (HOST, served.port))
    return connection


async def full_for_beats(served: Served) -> None:
    """Wait until a reader's connection is full, and many beats longer: it gets nothing more."""
    [port] = [one._front.port for one in served.members() if one.member.sink]  # noqa: SLF001
    await served.until(lambda: port.unsent and port.clogged, "a full connection")
    full, beats = 0, 0
    async with asyncio.timeout(DEADLINE):
        while beats < 10:
            beats, full = (beats + 1, full) if port.unsent == full else (0, port.unsent)
            await asyncio.sleep(BEAT)
    assert full
