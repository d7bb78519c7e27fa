"""Server-sent events: text as it was, the last event, and refusals before the first."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pytest

from pipe.errors import Outcome
from pipe.web.streams import sse

from .served import Conn, Served, request_head
from .test_sockets import BEAT, LATE_BYTES, decode_events, full_for_beats, narrow

ACCEPT = {"Accept": "text/event-stream"}


async def test_text_comes_as_it_was(served: Served) -> None:
    """All events' data together are the stream's text, lines, empty ones and the last end."""
    text = "one\ntwo\n\nthree: ä\nno end"
    reader = await served.request("GET", "/topic/build", headers=ACCEPT)
    await served.wait_members(1)
    writer = await served.connect()
    await writer.send(request_head("PUT", "/topic/build", len(text.encode())))
    for index in range(len(text.encode())):
        await writer.send(text.encode()[index : index + 1])
        await asyncio.sleep(0)
    got = await reader.response()
    assert got.headers["content-type"] == "text/event-stream"
    assert decode_events(got.text) == text.encode()
    assert got.whole
    end = got.text.rsplit("event: end\ndata: ", 1)[1]
    assert json.loads(end) == {"outcome": "done", "status": 0, "message": "done"}


@pytest.mark.parametrize("sent", [[b"a\r", b"\nb"], [b"a\r\nb"], [b"a\rb"], [b"a\r", b"b"]])
async def test_line_ends_become_lf(served: Served, sent: list[bytes]) -> None:
    """CR LF and CR end lines, also where they are cut in two."""
    reader = await served.request("GET", "/topic/build?persist=1", headers=ACCEPT)
    await served.wait_members(1)
    for piece in sent:
        await served.ask("PUT", "/topic/build", piece)
    for session in list(served.service.sessions):
        session.end(Outcome.DONE)  # type: ignore[attr-defined]
    assert decode_events((await reader.response()).text) == b"a\nb"


async def test_broken_stream_says_so(served: Served) -> None:
    """The last event tells of a broken stream, and the response breaks off."""
    reader = await served.request("GET", "/topic/build", headers=ACCEPT)
    await served.wait_members(1)
    writer = await served.connect()
    await writer.send(request_head("PUT", "/topic/build", 100) + b"abc")
    await served.until(lambda: any(m.member.received_bytes for m in served.members()), "bytes")
    writer.reset()
    got = await reader.head()
    assert got[0] == 200
    chunks = b""
    while chunk := await reader.chunk():
        chunks += chunk
    assert chunk is None
    assert b'"outcome":"broken","status":74' in chunks


async def test_refusal_is_a_status(served: Served) -> None:
    """What is refused has its status."""
    got = await served.ask("GET", "/topic/bob/build", headers=ACCEPT)
    assert (got.status, got.headers["pipe-outcome"]) == (403, "denied")


async def test_silence_is_filled(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments come while nothing else does, so that no proxy gives up."""
    monkeypatch.setattr(sse, "BEAT_SECONDS", 0.01)
    reader = await served.request("GET", "/topic/build", headers=ACCEPT)
    await reader.head()
    assert [await reader.chunk() for _ in range(4)] == [sse.BEAT] * 4
    reader.close()


async def test_beats_do_not_cut_off_who_reads_late(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is full at many a beat loses nothing, and has its last event."""
    monkeypatch.setattr(sse, "BEAT_SECONDS", BEAT)
    data = Random(5).randbytes(LATE_BYTES)
    reader = Conn(*await asyncio.open_connection(sock=await narrow(served)))
    await reader.send(request_head("GET", "/topic/build?format=sse&encoding=base64"))
    await served.wait_members(1)
    writer = asyncio.create_task(served.ask("PUT", "/topic/build", data))
    await full_for_beats(served)
    got = await reader.response()
    assert got.whole
    assert decode_events(got.text, base64=True) == data
    end = got.text.rsplit("event: end\ndata: ", 1)[1]
    assert json.loads(end)["outcome"] == "done"
    assert (await writer).text == f"sent {len(data)} bytes to 1 subscriber\n"
    reader.close()
