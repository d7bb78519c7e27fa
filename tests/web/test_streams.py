"""PUT and GET: bytes, receipts, statuses, and ends that are none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipe.session.session import Session
from pipe.stream.ports import Mode
from pipe.web import link

from .served import Served, request_head

MIB = 1 << 20


async def test_bytes_and_receipt(served: Served) -> None:
    """A reader gets what is published, whole, and the publisher a receipt."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    sent = await served.ask("PUT", "/topic/build", b"hello\n")
    got = await reader.response()
    assert (got.status, got.body, got.whole) == (200, b"hello\n", True)
    assert sent.status == 200
    assert sent.text == "sent 6 bytes to 1 subscriber\n"
    assert sent.headers["pipe-outcome"] == "done"


async def test_publisher_waits_for_a_reader(served: Served) -> None:
    """A publisher that comes first waits, and the late reader gets everything."""
    writer = await served.request("POST", "/t/build", b"x" * 3 * MIB)
    await served.wait_members(1)
    got = await served.ask("GET", "/t/build")
    assert got.body == b"x" * 3 * MIB
    assert got.whole
    assert (await writer.response()).text == f"sent {3 * MIB} bytes to 1 subscriber\n"


async def test_json_receipt(served: Served) -> None:
    """A program gets the receipt as JSON."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    sent = await served.ask("PUT", "/topic/build", b"abc", headers={"Accept": "application/json"})
    assert sent.json == {"bytes": 3, "subscribers": 1, "left_early": 0}
    await reader.response()


async def test_no_byte_is_a_whole_stream(served: Served) -> None:
    """A stream without a byte is an empty 200."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    await served.ask("PUT", "/topic/build")
    got = await reader.response()
    assert (got.status, got.body, got.whole) == (200, b"", True)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_broken_stream_is_no_end(served: Served, version: str) -> None:
    """A publisher that vanishes leaves a response that is cut off, for HTTP/1.0 too."""
    reader = await served.request("GET", "/topic/build", version=version)
    await served.wait_members(1)
    writer = await served.connect()
    await writer.send(request_head("PUT", "/topic/build", 1000) + b"some")
    status, headers = await reader.head()
    assert status == 200
    writer.reset()
    if version == "1.1":
        assert await reader.chunk() == b"some"
        assert await reader.chunk() is None
        return
    assert "transfer-encoding" not in headers
    assert await reader.reader.readexactly(4) == b"some"
    with pytest.raises(ConnectionResetError):
        await reader.reader.read()


async def test_http_1_0_reader_gets_a_whole_stream(served: Served) -> None:
    """HTTP/1.0 has no chunks; a whole stream ends with the connection."""
    reader = await served.request("GET", "/topic/build", version="1.0")
    await served.wait_members(1)
    await served.ask("PUT", "/topic/build", b"x" * MIB)
    got = await reader.response()
    assert (got.body, got.whole) == (b"x" * MIB, True)


async def test_exit_status_before_and_after_the_head(served: Served) -> None:
    """A publisher's exit status is a 424 without a byte, and a cut after one."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    await served.ask("PUT", "/topic/build?exit=3")
    got = await reader.response()
    assert (got.status, got.headers["pipe-status"]) == (424, "3")

    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    await served.ask("PUT", "/topic/build?x=3", b"abc")
    got = await reader.response()
    assert (got.status, got.body, got.whole) == (200, b"abc", False)


async def test_nobody_comes(served: Served) -> None:
    """Who waits in vain gets a 504, writer and reader."""
    writer = await served.ask("PUT", "/topic/build?timeout=10ms", b"abc")
    assert (writer.status, writer.headers["pipe-outcome"]) == (504, "timeout")
    assert writer.text == "gave up: 1 subscriber still missing after 10ms\n"
    reader = await served.ask("GET", "/topic/build?timeout=10ms")
    assert (reader.status, reader.headers["pipe-outcome"]) == (504, "timeout")


async def test_refusal_comes_before_the_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not read hears that, although the time was over before anybody had looked."""
    start = Session.start

    def start_later(session: Session, *request: Any) -> None:  # noqa: ANN401
        asyncio.get_running_loop().call_later(0.05, start, session, *request)

    monkeypatch.setattr(Session, "start", start_later)
    stranger = await served.ask("GET", "/topic/bob/build?timeout=0s")
    assert (stranger.status, stranger.headers["pipe-outcome"]) == (403, "denied")
    nobody = await served.ask("GET", "/topic/build?timeout=0s")
    assert (nobody.status, nobody.headers["pipe-outcome"]) == (504, "timeout")


async def test_denied_and_unknown(served: Served) -> None:
    """Without a token 401, with one that does not reach 403, and the words of SSH."""
    nobody = await served.ask("GET", "/topic/build", user=None)
    assert nobody.status == 401
    assert "Basic" in nobody.headers["www-authenticate"]
    stranger = await served.ask("GET", "/topic/bob/build")
    assert (stranger.status, stranger.headers["pipe-outcome"]) == (403, "denied")
    assert stranger.text == "access denied: bob/build is not shared with you\n"
    as_json = await served.ask("GET", "/topic/bob/build", headers={"Accept": "application/json"})
    assert as_json.json == {
        "outcome": "denied",
        "status": 77,
        "message": "access denied: bob/build is not shared with you",
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/topic/", 400, "the topic name is empty"),
        ("GET", "/topic/a%2F..%2Fb", 400, "segment '..'"),
        ("GET", "/topic/%252e", 400, "has a '%'"),
        ("GET", "/topic/%ff", 400, "is not valid UTF-8"),
        ("GET", "/topic/a?persit=1", 400, "did you mean 'persist'?"),
        ("GET", "/topic/a?progress", 400, "unknown parameter 'progress'"),
        ("PUT", "/topic/a?hold=25h", 400, "at most 1d"),
        ("GET", "/topic/a?slow=never", 400, "it takes block, drop or disconnect"),
        ("PUT", "/topic/a?timeout=5", 400, "?timeout has the value '5'"),
        ("GET", "/nothing", 404, "there is no such address"),
        ("DELETE", "/topic/a", 405, "GET"),
        ("GET", "/pipe/a", 426, "WebSocket"),
        ("HEAD", "/topic/a", 404, ""),
        ("HEAD", "/topic/bob/a", 403, ""),
    ],
)
async def test_what_cannot_be(
    served: Served, method: str, path: str, status: int, text: str
) -> None:
    """What cannot be understood or found is said so, with its outcome."""
    got = await served.ask(method, path)
    assert got.status == status
    assert text in got.text
    assert got.headers["pipe-outcome"] in {"usage", "denied"}
    assert got.headers["server"] == "pipe"


async def test_head_counts_and_joins_nobody(served: Served) -> None:
    """HEAD says who is there."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    got = await served.ask("HEAD", "/topic/build")
    assert got.status == 200
    assert (got.headers["pipe-publishers"], got.headers["pipe-subscribers"]) == ("0", "1")
    reader.close()


async def test_reader_that_left_is_no_ghost(served: Served) -> None:
    """A reader that hangs up is gone at once, and the next publisher waits."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    reader.close()
    await served.wait_members(0)
    got = await served.ask("PUT", "/topic/build?timeout=10ms", b"abc")
    assert got.status == 504


async def test_paused_publisher_that_died_is_gone_at_once(served: Served) -> None:
    """A publisher that dies while it waits is noticed as its kernel says goodbye."""
    writer = await served.connect()
    await writer.send(request_head("PUT", "/topic/build", MIB) + b"x" * 1000)
    await served.until(lambda: len(served.server.parts.hangups) == 1, "a watch")
    writer.reset()
    await served.wait_members(0)


async def test_no_byte_of_a_dead_publisher_reaches_anybody(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that died with its buffers full, so that nobody is told, is asked before it is read."""
    monkeypatch.setattr(link, "PROOF_AFTER_SECONDS", 0.0)
    writer = await served.connect()
    writer.writer.write(request_head("PUT", "/topic/build", 50 * MIB) + b"x" * 8 * MIB)
    await served.until(lambda: len(served.server.parts.hangups) == 1, "a watch")
    await asyncio.sleep(0.1)
    writer.reset()
    reader = await served.request("GET", "/topic/build?timeout=300ms")
    await served.until(lambda: all(m.member.sink for m in served.members()), "its end")
    got = await reader.response()
    assert (got.status, b"x" in got.body[:1]) in {(504, False), (502, False)}


async def test_slow_reader_holds_the_publisher_back(served: Served) -> None:
    """A reader that reads nothing pauses the publisher, and memory stays bounded."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    size = 64 * MIB
    writer = await served.connect()
    await writer.send(request_head("PUT", "/topic/build", size))

    async def pour() -> None:
        for _ in range(64):
            await writer.send(b"y" * MIB)

    pouring = asyncio.create_task(pour())
    await served.until(lambda: any(m.member.clogged for m in served.members()), "a clog")
    sessions = {one.member.mode: one for one in served.members()}
    sink = sessions[Mode.SUBSCRIBE].member.sink
    assert sink.pending <= served.service.settings.buffer + 2 * MIB
    assert sessions[Mode.PUBLISH].member.paused
    got = await reader.response()
    await pouring
    assert got.body == b"y" * size
    assert got.whole
    assert (await writer.response()).status == 200


async def test_expectation_is_met_when_a_reader_comes(served: Served) -> None:
    """100 Continue comes when somebody reads, and a refusal comes without it."""
    writer = await served.connect()
    head = request_head("PUT", "/topic/build", 5, headers={"Expect": "100-continue"})
    await writer.send(head)
    await served.wait_members(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await writer.reader.readexactly(1)
    reader = await served.request("GET", "/topic/build")
    assert (await writer.head())[0] == 100
    await writer.send(b"hello")
    assert (await reader.response()).body == b"hello"
    assert (await writer.response()).status == 200

    writer = await served.connect()
    await writer.send(
        request_head("PUT", "/topic/bob/build", 5, headers={"Expect": "100-continue"})
    )
    assert (await writer.response()).status == 403


async def test_keep_alive(served: Served) -> None:
    """A connection serves request after request."""
    conn = await served.connect()
    for _ in range(3):
        await conn.send(
            request_head("PUT", "/pubsub/build", 0, headers={}).replace(b"PUT", b"POST")
        )
        got = await conn.response()
        assert (got.status, got.text) == (200, "sent 0 bytes to 0 subscribers\n")


async def test_persisting_reader_sees_one_after_the_other(served: Served) -> None:
    """With persist the head comes at once, and the stream goes on with the next publisher."""
    reader = await served.request("GET", "/topic/build?persist=true")
    assert (await reader.head())[0] == 200
    for word in (b"one", b"two"):
        sent = await served.ask("PUT", "/topic/build", word)
        assert sent.status == 200
        assert await reader.chunk() == word
    reader.close()


async def test_pattern(served: Served) -> None:
    """A pattern may be read, and persists."""
    reader = await served.request("GET", "/topic/build-*")
    assert (await reader.head())[0] == 200
    await served.ask("PUT", "/topic/build-7", b"seven")
    assert await reader.chunk() == b"seven"
    reader.close()


async def test_offer_of_the_publisher(served: Served) -> None:
    """Type, name and length of the only publisher reach the reader, made safe."""
    for kind, shown in (
        ("application/pdf", "application/pdf"),
        ("text/html", "text/plain; charset=utf-8"),
    ):
        reader = await served.request("GET", "/topic/build")
        await served.wait_members(1)
        await served.ask(
            "PUT",
            "/topic/build",
            b"%PDF",
            headers={
                "Content-Type": kind,
                "Content-Disposition": 'attachment; filename="../x/räport.pdf"'.encode().decode(
                    "latin-1"
                ),
            },
        )
        got = await reader.response()
        assert got.headers["content-type"] == shown
        assert got.headers["pipe-length"] == "4"
        assert "filename" in got.headers["content-disposition"]
        assert "/" not in got.headers["content-disposition"].partition(";")[2].replace(
            "UTF-8''", ""
        )
        assert got.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert got.headers["cache-control"] == "no-store, no-transform"


async def test_preflight(served: Served) -> None:
    """Pages of other origins may ask, without a cookie."""
    got = await served.ask(
        "OPTIONS", "/topic/build", user=None, headers={"Origin": "https://x.test"}
    )
    assert got.status == 204
    assert got.headers["access-control-allow-origin"] == "*"
    assert "PUT" in got.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in got.headers
    allowed, exposed = (
        set(got.headers[f"access-control-{what}-headers"].lower().split(", "))
        for what in ("allow", "expose")
    )
    assert {"authorization", "range", "content-range", "pipe-stream"} <= allowed
    assert {"pipe-stream", "pipe-offset", "pipe-kept", "content-range"} <= exposed


async def test_draining(served: Served) -> None:
    """A server that stops takes no more requests."""
    served.service.draining = True
    assert (await served.ask("GET", "/healthz")).status == 503
    got = await served.ask("GET", "/topic/build")
    assert (got.status, got.headers["pipe-outcome"]) == (503, "shutdown")
    assert got.headers["retry-after"] == "5"
