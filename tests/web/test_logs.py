"""Log lines by HTTP: from shippers, and to whom they are about."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from pipe.errors import Outcome
from pipe.events.listener import Listener
from pipe.events.logs.batches import MAX_BATCH_BYTES
from pipe.events.logs.drain import MAX_BACKLOG_BYTES, MISSED
from pipe.rights.scopes import Reach, Right, Scope
from pipe.stream.chunks import Chunk
from pipe.web import logs

from .served import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipe.rights.callers import Caller

    from .served import Conn, Response, Served

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
FULL = MAX_BACKLOG_BYTES // 1024


@pytest.fixture
async def drained() -> AsyncIterator[Served]:
    """A server that drains ``ops/log-drain``, as `pipe.app` has it."""
    async with serving(log_drain="ops/log-drain") as served:
        service = served.service
        topic = service.settings.log_drain_topic
        assert topic
        listener = Listener(service.router, topic, service.logs.take, service.logs.ended)
        listener.start()
        yield served
        listener.stop()


async def ship(
    served: Served, body: bytes, path: str = "/api/logs", user: str = "ops", **headers: str
) -> Response:
    """Send a batch."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served.ask("POST", path, body, user=user, headers={**NDJSON, **named})


async def shown(served: Served, user: str = "alice", query: str = "") -> list[dict[str, Any]]:
    """A user's past lines."""
    got = await served.ask("GET", f"/api/logs?follow=false{query}", user=user)
    assert got.status == 200, got.text
    assert got.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in got.body.splitlines()]


async def until_shown(served: Served, count: int, user: str = "alice") -> list[str]:
    """What a user's lines say, once there are so many."""
    logs_ = served.service.logs
    await served.until(lambda: sum(logs_.counts.values()) >= count, f"{count} lines")
    return [line["msg"] for line in await shown(served, user)]


def lines(*texts: str, user: str = "alice") -> bytes:
    """Lines of a user's."""
    return b"".join(json.dumps({"msg": text, "user": user}).encode() + b"\n" for text in texts)


async def test_a_batch_reaches_its_users(drained: Served) -> None:
    """Lines come to whom they name, the others are counted in a header; the answer has no body."""
    body = b"\n\n".join([lines("one"), lines("his", user="bob"), b"junk", lines("two")])
    got = await ship(drained, body)
    assert (got.status, got.body, got.headers["pipe-rejected"]) == (204, b"", "1")
    assert await until_shown(drained, 3) == ["one", "two"]
    assert await until_shown(drained, 3, "bob") == ["his"]
    assert "pipe-rejected" not in (await ship(drained, lines("three"))).headers


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'[{"msg":"x","user":"alice"}]', JSON),
        (b'{"msg":"x","user":"alice"}', JSON),
        (b'{"msg":"x",\n "user":"alice"}', JSON),
        (b'{"msg":"x","user":"alice"}', {"Content-Type": "text/plain; charset=utf-8"}),
        (gzip.compress(b'{"msg":"x","user":"alice"}\n', mtime=0), {"Content-Encoding": "gzip"}),
    ],
)
async def test_forms(drained: Served, body: bytes, headers: dict[str, str]) -> None:
    """A body can be lines, an array or one object, and gzip."""
    got = await drained.ask("POST", "/api/logs", body, user="ops", headers={**NDJSON, **headers})
    assert got.status == 204, got.text
    assert await until_shown(drained, 1) == ["x"]


async def test_otlp(drained: Served) -> None:
    """OpenTelemetry's exporters are answered as they expect it, at the address that they use."""
    record: dict[str, Any] = {
        "body": {"stringValue": "hello"},
        "attributes": [{"key": "user", "value": {"stringValue": "alice"}}],
    }
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record, 5]}]}]}).encode()
    got = await drained.ask("POST", "/v1/logs", body, user="ops", headers=JSON)
    assert (got.status, got.json) == (200, {"partialSuccess": {"rejectedLogRecords": "1"}})
    assert (await drained.ask("POST", "/v1/logs", b"{}", user="ops", headers=JSON)).json == {}
    assert await until_shown(drained, 1) == ["hello"]
    protobuf = {"Content-Type": "application/x-protobuf"}
    assert (await drained.ask("POST", "/v1/logs", b"x", user="ops", headers=protobuf)).status == 415


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"x", {"Content-Type": "application/msgpack"}, 415, "application/x-ndjson"),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "ndjson"),
        (b"x", {"Content-Encoding": "zstd"}, 415, "only gzip"),
        (b"x", {"Content-Encoding": "gzip"}, 400, "gzip"),
        (b"junk\nmore", {}, 400, "none of 2 lines is a JSON object"),
        (b"[1,", JSON, 400, "no JSON"),
        (
            gzip.compress(b"\n" * (MAX_BATCH_BYTES + 1), mtime=0),
            {"Content-Encoding": "gzip"},
            413,
            "more",
        ),
        (b"{}\n" * 60_000, {}, 413, "lines"),
        (b"[%b]" % b",".join([b'{"a":"%b"}' % (b"\x7f" * 9000)] * 60), JSON, 413, "escapes"),
        (b" " * (MAX_BATCH_BYTES + 1), {}, 413, "more"),
    ],
)
async def test_what_is_not_taken(
    drained: Served, body: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    """What is no batch is refused with a line that says why, and nothing of it is published."""
    conn = await drained.request(
        "POST", "/api/logs", body, user="ops", headers={**NDJSON, **headers}
    )
    got = await conn.response()
    assert got.status == status, got.text
    assert text in got.text
    assert not sum(drained.service.logs.counts.values())


async def test_nothing_is_empty(drained: Served) -> None:
    """A batch of nothing is no error: shippers send some."""
    for body in (b"", b"\n\n"):
        assert (await ship(drained, body)).status == 204


def scoped(served: Served, scope: Scope) -> None:
    """Let every token have this scope."""
    admit = served.tokens.admit

    async def narrowed(text: str, address: str, user: str | None = None) -> Caller:
        found = dataclasses.replace(await admit(text, address, user), scope=scope)
        served.tokens.here[-1] = found
        return found

    served.tokens.admit = narrowed  # type: ignore[method-assign]


async def test_who_may_send(drained: Served) -> None:
    """It takes the right to write the drain's topic, and of a token the right to logs besides."""
    got = await ship(drained, lines("x"), user="alice")
    assert (got.status, got.headers["pipe-outcome"]) == (403, "denied")
    assert "ops/log-drain" in got.text
    writes = Reach.parse(["ops/log-drain"], owner="ops")
    for scope, status in (
        (Scope(writes=writes), 403),
        (Scope(rights=frozenset({Right.LOGS})), 403),
        (Scope(writes=writes, rights=frozenset({Right.LOGS})), 204),
    ):
        async with serving(log_drain="ops/log-drain") as served:
            scoped(served, scope)
            assert (await ship(served, lines("x"))).status == status


async def test_without_a_drain(served: Served) -> None:
    """A server without a log drain says so, and still shows what it tells itself."""
    got = await ship(served, lines("x"))
    assert got.status == 404
    assert "--log-drain" in got.text
    served.service.tell_owner("alice", "INFO", "hello")
    assert [line["msg"] for line in await shown(served)] == ["hello"]


async def test_others_on_the_topic_see_batches(drained: Served) -> None:
    """A batch goes through the drain's topic as one stream, so other subscribers get it too."""
    reader = await drained.request("GET", "/topic/ops/log-drain", user="ops")
    await drained.wait_members(1)
    assert (await ship(drained, lines("one", "two"))).status == 204
    assert (await reader.response()).body == lines("one", "two")
    assert await until_shown(drained, 2) == ["one", "two"]


async def test_a_full_drain(drained: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the drain is full, a shipper is told when to send its batch again."""
    drain = drained.service.logs
    monkeypatch.setattr(type(drain), "clogged", True)
    got = await ship(drained, lines("x"))
    assert (got.status, got.headers["retry-after"]) == (503, str(logs.RETRY_SECONDS))
    monkeypatch.undo()
    monkeypatch.setattr(logs, "MAX_BATCHES", 0)
    assert (await ship(drained, lines("x"))).status == 503
    monkeypatch.undo()
    assert (await ship(drained, lines("x"))).status == 204


async def test_a_body_that_does_not_come(drained: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body has some seconds to come, and gives its place back."""
    monkeypatch.setattr(logs, "BODY_SECONDS", 0.01)
    monkeypatch.setattr(logs, "MAX_BATCHES", 1)
    for _ in range(2):
        conn = await drained.request(
            "POST", "/api/logs", b"{", user="ops", headers={**NDJSON, "Content-Length": "100"}
        )
        got = await conn.response()
        assert got.status == 400
        assert "did not come" in got.text


async def follow(served: Served, query: str = "", user: str = "alice", **headers: str) -> Conn:
    """Follow a user's lines."""
    conn = await served.request("GET", f"/api/logs{query}", user=user, headers=headers)
    status, _ = await conn.head()
    assert status == 200
    return conn


async def test_follow(drained: Served) -> None:
    """Lines of late come first, then each one as it comes, as lines of JSON."""
    tell = drained.service.tell_owner
    tell("alice", "INFO", "old")
    conn = await follow(drained)
    texts = [json.loads(await conn.chunk() or b"")["msg"]]
    for text in ("one", "two"):
        tell("alice", "INFO", text)
        tell("bob", "INFO", "his")
        texts.append(json.loads(await conn.chunk() or b"")["msg"])
    assert texts == ["old", "one", "two"]
    conn.close()


async def test_events(drained: Served) -> None:
    """A page gets each line as an event of its own, and at last the end."""
    tell = drained.service.tell_owner
    conn = await follow(drained, "?n=0&level=warn", Accept="text/event-stream")
    assert await conn.chunk() == b": \n\n"
    tell("alice", "INFO", "left out")
    tell("alice", "WARN", "one")
    tell("alice", "ERROR", "two")
    events = b""
    while events.count(b"\n\n") < 2:
        events += await conn.chunk() or b""
    one, two = (event.removeprefix(b"data: ") for event in events.split(b"\n\n")[:2])
    assert [json.loads(one)["msg"], json.loads(two)["msg"]] == ["one", "two"]
    for session in list(drained.service.sessions):
        session.cut(Outcome.SHUTDOWN)
    last = await conn.chunk()
    assert last
    assert last.startswith(b"event: end\ndata: ")
    assert b'"outcome":"shutdown"' in last
    assert await conn.chunk() is None


async def test_events_of_the_past(drained: Served) -> None:
    """Without more to come, the past is a list of events."""
    drained.service.tell_owner("alice", "INFO", "one")
    got = await drained.ask("GET", "/api/logs?f=false&format=sse")
    assert got.headers["content-type"] == "text/event-stream"
    assert json.loads(got.body.removeprefix(b"data: "))["msg"] == "one"


@pytest.mark.parametrize(
    ("query", "user", "status"),
    [
        ("?all=true", "alice", 403),
        ("?user=bob", "alice", 403),
        ("?all=true&follow=false", "root", 200),
        ("?level=loud", "alice", 400),
        ("?n=1000", "alice", 400),
        ("?colour=red", "alice", 400),
        ("?all=true&user=bob", "root", 400),
    ],
)
async def test_rights_and_slips(drained: Served, query: str, user: str, status: int) -> None:
    """Rights and options are those of ``logs``, and so are the words."""
    assert (await drained.ask("GET", f"/api/logs{query}", user=user)).status == status


async def test_who_reads_nothing_loses_lines(drained: Served) -> None:
    """A client that does not read holds little, misses lines, and is told how many."""
    conn = await follow(drained, "?n=0")
    conn.writer.transport.pause_reading()  # type: ignore[attr-defined]
    drain, count = drained.service.logs, 0
    while drain.counts[MISSED] < 100:
        drained.service.tell_owner("alice", "INFO", "x" * 900)
        count += 1
        if not count % 100:
            await asyncio.sleep(0)
    conn.writer.transport.resume_reading()  # type: ignore[attr-defined]
    got = missed = 0
    while got + missed < count:
        for line in (await conn.chunk() or b"").splitlines():
            fields = json.loads(line)
            if fields["msg"] == "lines dropped":
                missed += fields["count"]
            else:
                got += 1
    assert missed == drain.counts[MISSED]
    conn.close()


async def test_a_chunk_of_many_lines_keeps_nobody_waiting(drained: Served) -> None:
    """Lines are read in turns: the loop goes round many times while a large batch is read."""
    drain = drained.service.logs
    drain.take(Chunk(b'{"user":"alice","msg":"x"}\n' * 40_000))
    rounds = 0
    while drain.counts["user"] < 40_000:
        await asyncio.sleep(0)
        rounds += 1
    assert rounds >= 10
