"""Deliveries over HTTP: who is answered what, and who gets to read it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hmac
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pipe.errors import StoreUnavailable
from pipe.events.dedupe import sight
from pipe.events.envelope import Event
from pipe.events.hooks import deliveries
from pipe.events.hooks.deliveries import BURST, Result
from pipe.web import hooks as hooks_module

from .served import Served, request_head, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .served import Conn, Response

PAYLOADS = Path(__file__).parents[1] / "events" / "hooks" / "payloads"
PUSH = (PAYLOADS / "distribution.json").read_bytes()
TOPIC = "alice/alpine:latest"


class Made(NamedTuple):
    """A hook, as its user has it."""

    path: str
    secret: str

    @property
    def id(self) -> str:
        """Its ID."""
        return self.path.split("/")[2]

    @property
    def bearer(self) -> dict[str, str]:
        """What most senders show."""
        return {"Authorization": f"Bearer {self.secret}"}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server with alice and bob."""
    async with serving() as found:
        await found.people.add("alice", "bob")
        yield found


async def make(served: Served, words: str = "x", user: str = "alice") -> Made:
    """Make a hook."""
    url, *secret = (await served.people.run(user, f"hooks add {words}")).split()
    path = url.removeprefix(served.service.web_url)
    return Made(path, secret[0] if secret else path.split("/")[3])


async def post(served: Served, made: Made, body: bytes = b"hello", **headers: str) -> Response:
    """Deliver with the right secret."""
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served.ask("POST", made.path, body, user=None, headers={**made.bearer, **shown})


def results(served: Served, made: Made) -> list[Result]:
    """What came of the last deliveries, the newest first."""
    return [one.result for one in served.service.hooks.deliveries.of(made.id)]


@contextlib.asynccontextmanager
async def reading(served: Served, topic: str, user: str = "alice") -> AsyncIterator[Conn]:
    """Read a topic on and on."""
    conn = await served.request("GET", f"/topic/{topic}?persist=true", user=user)
    await conn.head()
    yield conn
    conn.close()


async def test_push_is_an_event(served: Served) -> None:
    """A registry's notification ends ``sub NAME:TAG`` with one line, and is told only once."""
    made = await make(served, "alice/ --kind distribution")
    conn = await served.request("GET", "/topic/alpine:latest")
    await served.wait_members(1)
    answers = [await post(served, made, PUSH) for _ in range(3)]
    assert [(one.status, one.body) for one in answers] == [(202, b"")] * 3
    got = await conn.response()
    assert got.whole
    event = got.json
    assert event["repository"] == "alice/alpine"
    assert event["tag"] == "latest"
    assert event["digest"].startswith("sha256:41ed7fb7")
    assert event["source"] == "distribution"
    assert results(served, made) == [Result.REPEAT, Result.REPEAT, Result.PUBLISHED]
    assert served.service.hooks.deliveries.of(made.id)[-1].readers == 1


async def test_push_that_another_told(served: Served) -> None:
    """What our own proxy has told of is not told again by the registry, in whatever way."""
    first = await make(served, "alice/ --kind distribution")
    second = await make(served, "alpine:latest --kind distribution")
    event = Event(0.0, "alice/alpine", "latest", json.loads(PUSH)["events"][0]["target"]["digest"])
    pushed = sight(event)
    assert pushed
    assert await served.service.once.is_new(pushed)
    for made in (first, second):
        assert (await post(served, made, PUSH)).status == 202
        assert results(served, made) == [Result.REPEAT]


async def test_others_cannot_hush_a_push(served: Served) -> None:
    """Whatever somebody else's hook is told of an image of alice's, she hears of her own."""
    for words in (
        "bob/ --kind distribution",
        "public/ --kind distribution",
        "y --kind distribution",
    ):
        theirs = await make(served, words, "bob")
        assert (await post(served, theirs, PUSH)).status == 202
    made = await make(served, "alice/ --kind distribution")
    await post(served, made, PUSH)
    assert results(served, made) == [Result.UNHEARD]


async def test_any_body_is_one_stream(served: Served) -> None:
    """What comes to a generic hook is read as it came; a key tells repeats, if there is one."""
    made = await make(served)
    async with reading(served, "x") as conn:
        for body in (b"hello\n", b"\0\xff", b"hello\n"):
            await post(served, made, body)
            assert await conn.chunk() == body
        await post(served, made, b"once", Idempotency_Key="k")
        await post(served, made, b"twice", Idempotency_Key="k")
        await post(served, made, b"end")
        assert await conn.chunk() == b"once"
        assert await conn.chunk() == b"end"
        large = bytes(range(256)) * 4096
        await post(served, made, large)
        got = b""
        while len(got) < len(large):
            got += await conn.chunk() or b""
        assert got == large


async def test_secret_in_the_path(served: Served) -> None:
    """Who can send no header shows the secret in the path."""
    made = await make(served)
    path = f"{made.path}/{made.secret}"
    assert (await served.ask("POST", path, b"x", user=None)).status == 202
    hub = await make(served, "alice/ --kind dockerhub")
    body = (PAYLOADS / "dockerhub.json").read_bytes()
    async with reading(served, "alice/acme/web:v1.2") as conn:
        assert (await served.ask("POST", hub.path, body, user=None)).status == 202
        assert json.loads(await conn.chunk() or b"")["by"] == "alice"


async def test_signed_ones(served: Served) -> None:
    """A signature is over the body as it came, and one body is taken once whatever its ID says."""
    made = await make(served, "alice/ --kind github")
    body = (PAYLOADS / "github.json").read_bytes()
    mac = hmac.digest(made.secret.encode(), body, "sha256").hex()

    async def send(number: str, signature: str = f"sha256={mac}") -> int:
        headers = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": number}
        return (await served.ask("POST", made.path, body, user=None, headers=headers)).status

    assert [await send("1"), await send("1"), await send("2")] == [202] * 3
    assert results(served, made) == [Result.REPEAT, Result.REPEAT, Result.UNHEARD]
    assert await send("3", f"sha256={'0' * 64}") == 401


def wrong(made: Made) -> list[tuple[str, dict[str, str]]]:
    """Requests without the right proof."""
    other = {"Authorization": f"Bearer {'x' * 47}"}
    unknown = f"/hook/{'a' * 12}"
    return [
        (made.path, {}),
        (made.path, other),
        (f"{made.path}/{'x' * 47}", {}),
        (made.path, {"Authorization": "\xff"}),
        (made.path, {"X-Gitlab-Token": made.secret}),
        (unknown, {}),
        (unknown, made.bearer),
        (f"{unknown}/{made.secret}", {}),
        ("/hook/%00%00%00%00%00%00%00%00%00%00%00%00", made.bearer),
        ("/hook/x", made.bearer),
    ]


async def test_wrong_ones_look_the_same(served: Served) -> None:
    """No answer tells whether there is such a hook, and each ends its connection."""
    made = await make(served)
    answers = []
    for path, headers in wrong(made):
        conn = await served.request("POST", path, b"x" * 100_000, user=None, headers=headers)
        answers.append(await conn.response())
        assert await conn.wait_closed_by_server() == b""
    assert {one.status for one in answers} == {401}
    assert len({one.body for one in answers}) == 1
    assert len({str({**one.headers, "date": ""}) for one in answers}) == 1
    assert answers[0].headers["www-authenticate"].startswith("Bearer")
    refused = served.service.metrics.hook_deliveries
    assert refused.labels("generic", "refused")._value.get() == 5  # noqa: SLF001
    assert refused.labels("none", "refused")._value.get() == 5  # noqa: SLF001


async def test_wrong_ones_are_charged_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a refused login of its address, until the gate lets it in no more."""
    gate = served.service.gate
    monkeypatch.setattr(gate, "trusts", lambda _: False)
    for _ in range(4):
        assert (await served.ask("POST", f"/hook/{'a' * 12}", b"", user=None)).status == 401
    assert gate.refuses("127.0.0.1", asyncio.get_running_loop().time())


async def test_rotated_secrets_count_no_more(served: Served) -> None:
    """From the command on the new one counts, and the old one does not."""
    made = await make(served)
    secret = (await served.people.run("alice", f"hooks rotate {made.id}")).split()[1]
    assert (await post(served, made)).status == 401
    assert (await post(served, made._replace(secret=secret))).status == 202
    await served.people.run("alice", f"hooks rm {made.id}")
    assert (await post(served, made._replace(secret=secret))).status == 401


async def test_removed_users_hooks_are_gone(served: Served) -> None:
    """With a user go the hooks."""
    made = await make(served)
    assert (await post(served, made)).status == 202
    await served.service.store.remove_user("alice")
    assert (await post(served, made)).status == 401


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Encoding": "gzip"}, gzip.compress(PUSH, mtime=0), 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"payload=%7B%7D", 415),
        ({"Content-Length": str((1 << 20) + 1)}, b"", 413),
        ({"Content-Encoding": "identity", "Content-Type": "text/plain"}, PUSH, 202),
        ({}, b"[" * (1 << 20), 202),
        ({}, b"[" + b"{}," * 300_000 + b"{}]", 202),
        ({}, b"\xff", 202),
        ({}, b"", 202),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_bodies(served: Served, headers: dict[str, str], body: bytes, status: int) -> None:
    """A body that is compressed, a form or too long is refused; one that says nothing is not."""
    made = await make(served, "alice/ --kind distribution")
    got = await post(served, made, body, **{k.replace("-", "_"): v for k, v in headers.items()})
    assert got.status == status, got.text
    if status == 202 and body != PUSH:
        [delivery] = served.service.hooks.deliveries.of(made.id)
        assert delivery.result is Result.UNREADABLE
        assert delivery.detail


async def test_endless_bodies_end(served: Served) -> None:
    """Chunks that go on and on are read as far as a body may go."""
    made = await make(served)
    headers = {**made.bearer, "Transfer-Encoding": "chunked"}
    conn = await served.request("POST", made.path, user=None, headers=headers)
    with contextlib.suppress(OSError):
        for _ in range(20):
            await conn.send(b"10000\r\n" + bytes(65536) + b"\r\n")
    assert (await conn.response()).status == 413


async def test_slow_bodies_are_cut_off() -> None:
    """A body that does not come holds its connection no longer than a login may take."""
    async with serving(login_timeout=0.2) as served:
        await served.people.add("alice")
        made = await make(served)
        conn = await served.request(
            "POST", made.path, b"x", user=None, headers={**made.bearer, "Content-Length": "10"}
        )
        assert await conn.wait_closed_by_server() == b""
        assert results(served, made) == []


async def test_long_bodies_are_few(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of long bodies only some are read at a time; short ones always are."""
    monkeypatch.setattr(hooks_module, "MAX_LARGE", 1)
    made = await make(served)
    head = {**made.bearer, "Content-Length": "200000"}
    first = await served.request("POST", made.path, bytes(100_000), user=None, headers=head)
    app = served.server._runner.app  # noqa: SLF001 - how far it has read
    await served.until(lambda: app[hooks_module.BODIES].large == 1, "it is being read")
    refused = await post(served, made, bytes(200_000))
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert (await post(served, made, bytes(1000))).status == 202
    await first.send(bytes(100_000))
    assert (await first.response()).status == 202
    assert (await post(served, made, bytes(200_000))).status == 202
    assert served.service.metrics.refused.labels("hooks")._value.get() == 1  # noqa: SLF001


async def test_floods_are_told_to_wait(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook has so many deliveries at once; strangers use none of them up, nor does another."""
    monkeypatch.setattr(deliveries, "RATE", 0.001)
    made, other = await make(served), await make(served)
    for _ in range(int(BURST)):
        assert (await served.ask("POST", made.path, user=None)).status == 401
    answers = [await post(served, made) for _ in range(int(BURST) + 1)]
    assert {one.status for one in answers[:-1]} == {202}
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert (await post(served, other)).status == 202


async def test_trouble_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook's user is told of deliveries that were refused or make no sense, and of which hook."""
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        served.service.hooks, "_tell", lambda user, _level, text, **_: told.append((user, text))
    )
    made = await make(served, "alice/ --kind quay")
    await served.ask("POST", made.path.rpartition("/")[0], user=None)
    await served.ask("POST", made.path, b"[", user=None)
    start = f"a delivery to your hook {made.id} (quay) was"
    assert told == [
        ("alice", f"{start} refused"),
        ("alice", f"{start} unreadable: it is no JSON"),
    ]


async def test_held_events_wait(served: Served) -> None:
    """With a hold an event waits for its first reader."""
    made = await make(served, "x --hold 1h")
    await post(served, made, b"held")
    assert results(served, made) == [Result.HELD]
    got = await served.ask("GET", "/topic/x")
    assert (got.status, got.body) == (200, b"held")


async def test_without_right_nothing_is_published(served: Served) -> None:
    """A grant that was taken back is one that is not there; the sender is told nothing of it."""
    await served.people.run("bob", "grant x alice --write")
    made = await make(served, "bob/x")
    async with reading(served, "x", "bob") as conn:
        await post(served, made, b"one")
        await served.people.run("bob", "revoke x alice")
        assert (await post(served, made, b"two")).status == 202
        await served.people.run("bob", "grant x alice --write")
        await post(served, made, b"three")
        assert [await conn.chunk(), await conn.chunk()] == [b"one", b"three"]
    assert results(served, made) == [Result.PUBLISHED, Result.DENIED, Result.PUBLISHED]


async def test_database_away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody knows which hooks there are, senders are asked to come again."""
    made = await make(served)

    async def find(_: str) -> None:
        raise StoreUnavailable("cannot use the accounts database /secret/place")

    monkeypatch.setattr(served.service.store.hooks, "find", find)
    got = await post(served, made)
    assert got.status == 503
    assert got.headers["retry-after"]
    assert "/secret" not in got.text


async def test_other_methods(served: Served) -> None:
    """It is there to be posted to, and pages of others cannot do that with what they read."""
    made = await make(served)
    got = await served.ask("GET", made.path, user=None)
    assert (got.status, got.headers["allow"]) == (405, "POST")
    answered = await post(served, made, Origin="https://evil.example")
    assert "access-control-allow-origin" not in answered.headers


async def test_several_on_one_connection(served: Served) -> None:
    """A sender may keep its connection; it counts as its hook's user's."""
    made = await make(served)
    conn = await served.connect()
    for number in range(3):
        head = request_head("POST", made.path, 1, None, headers=made.bearer)
        await conn.send(head + b"x")
        assert (await conn.response()).status == 202, number
    assert served.service.gate.waiting == 0


async def test_api(served: Served) -> None:
    """The page makes, lists, tests, renews and removes hooks with the words of SSH."""

    async def call(method: str, path: str, **fields: object) -> tuple[int, Any]:
        body = json.dumps(fields).encode() if fields else b""
        got = await served.ask(method, path, body)
        return got.status, got.json if got.status < 400 else got.text

    status, made = await call(
        "POST", "/api/hooks", topic="alice/", kind="github", hold="10m", name="ci"
    )
    assert status == 201
    assert set(made) == {"id", "url", "secret"}
    number = made["id"]
    assert made["url"].endswith(f"/hook/{number}")
    status, rows = await call("GET", "/api/hooks")
    assert status == 200
    assert [(row["id"], row["kind"], row["name"], row["hold"]) for row in rows] == [
        (number, "github", "ci", 600.0)
    ]
    assert made["secret"] not in json.dumps(rows)
    status, other = await call("POST", "/api/hooks/rotate", id=number)
    assert (status, other["url"]) == (201, made["url"])
    assert other["secret"] != made["secret"]
    status, tested = await call("POST", "/api/hooks/test", id=number)
    assert status == 200
    assert "waits on alice/hook-test:latest" in tested["message"]
    status, in_path = await call("POST", "/api/hooks", topic="alice/", kind="quay")
    assert (status, in_path["secret"]) == (201, None)
    assert f"/hook/{in_path['id']}/" in in_path["url"]
    assert (await call("DELETE", "/api/hooks", id=number))[0] == 200
    assert (await call("DELETE", "/api/hooks", id=number))[0] == 400
    assert (await call("POST", "/api/hooks", topic="bob/x"))[0] == 403
    assert (await served.ask("GET", "/api/hooks", user=None)).status == 401
    reader = await served.ask("GET", "/topic/hook-test:latest")
    assert reader.json["event"] == "test"
