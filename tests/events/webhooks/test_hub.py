"""Webhooks at work, from a topic to what is posted, with a poster of the tests'."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from standardwebhooks.webhooks import Webhook as Receiver

from pipe.errors import StoreError
from pipe.events.webhooks import courier as courier_module
from pipe.events.webhooks import schedule as schedule_module
from pipe.events.webhooks.posting import Answer, Result
from pipe.events.webhooks.signing import derive_secret, shown
from pipe.language.names import TopicName
from pipe.language.webhook_requests import Posting
from pipe.store import guard as guard_module
from pipe.store.webhooks import HEALTHY, Health, Webhook, WebhookState
from pipe.stream.ports import Mode
from tests.fakes import FakeSource, publisher
from tests.sessions import People, started

from .posts import BAD, GONE, GOOD, FakePoster, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipe.events.webhooks.courier import Courier

BUILD = TopicName("alice", ("build",))
ID = "aaaabbbbcccc"


class World:
    """A service with alice and bob, what its webhooks send, and what users are told."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.service = people.service
        self.webhooks = people.service.webhooks
        self.poster = FakePoster()
        self.told: list[tuple[str, str, dict[str, object]]] = []
        self.webhooks.make_poster = self.poster.itself
        self.webhooks.shared.tell = self._tell

    def _tell(self, user: str, level: str, msg: str, /, **fields: object) -> None:
        assert level in {"INFO", "WARN"}
        self.told.append((user, msg, fields))

    async def add(
        self,
        posting: Posting = Posting.LINE,
        user: str = "alice",
        topic: TopicName = BUILD,
        number: str = ID,
        health: Health = HEALTHY,
    ) -> Courier:
        """Make a webhook."""
        url = "https://example.org/x"
        one = Webhook(number, user, topic, url, posting, "", time.time(), health=health)
        await self.service.store.webhooks.add(one)
        await self.webhooks.follow(user)
        return self.webhooks.of(user)[number]

    def publish(self, topic: TopicName = BUILD, *, exit_status: int = 0) -> FakeSource:
        """Somebody writes."""
        return publisher(
            self.service.router, topic, wants=0, synchronous=True, exit_status=exit_status
        )

    def say(self, *lines: str) -> None:
        """Somebody writes lines, and ends."""
        source = self.publish()
        source.send(*lines)
        source.end()

    def events(self, user: str = "alice") -> list[str]:
        """What one user was told, in short."""
        return [event for whom, event, _ in self.told if whom == user]

    def dropped(self, reason: str) -> float:
        """How many were not sent for a reason."""
        value = self.service.metrics.registry.get_sample_value(
            "pipe_webhook_dropped_total", {"reason": reason}
        )
        assert value is not None
        return value

    async def state(self) -> Webhook:
        """The only webhook, as the database has it."""
        [one] = await self.service.store.webhooks.list_webhooks()
        return one


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Nobody has a webhook yet; at the end nothing is left."""
    async with started() as service:
        people = People(service)
        await people.add("alice", "bob")
        world = World(people)
        await world.webhooks.start()
        try:
            yield world
        finally:
            await world.webhooks.close()
            assert world.webhooks.shared.held == 0
            assert world.webhooks.waiting == 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try comes soon."""
    monkeypatch.setattr(schedule_module, "DELAYS", (0.01,) * 3)


async def test_each_line_is_posted_and_signed(world: World) -> None:
    """A POST for each line, in order, with what a receiver needs to verify it."""
    await world.add()
    world.say("one\ntw", "o\n")
    assert await world.poster.wait(2) == [b"one", b"two"]
    secret = shown(derive_secret(world.webhooks.shared.key, ID))
    for post in world.poster.posts:
        assert (post.user, post.url) == ("alice", "https://example.org/x")
        headers = dict(post.headers)
        assert headers["Pipe-Topic"] == "alice/build"
        assert headers["User-Agent"] == "pipe"
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        Receiver(secret).verify(post.body.decode(), headers, json_parse=False)
    ids = [post.headers["webhook-id"] for post in world.poster.posts]
    assert len(set(ids)) == 2


async def test_each_stream_is_posted(world: World) -> None:
    """Without framing a POST has a whole stream, and says what status it left."""
    await world.add(Posting.NONE)
    world.say('{"a":\n', "1}")
    source = world.publish(exit_status=3)
    source.end()
    assert await world.poster.wait(2) == [b'{"a":\n1}', b""]
    first, second = (post.headers for post in world.poster.posts)
    assert first["Content-Type"] == "application/json"
    assert "Pipe-Status" not in first
    assert second["Pipe-Status"] == "3"


async def test_broken_stream_is_not_posted(world: World) -> None:
    """Half a stream is nothing that anybody may take for a whole one, and the owner is told."""
    await world.add(Posting.NONE)
    source = world.publish()
    source.send("half")
    source.vanish()
    world.say("whole")
    assert await world.poster.wait(1) == [b"whole"]
    await until(lambda: world.events() == ["webhook did not send"])
    assert world.dropped("broken") == 1


async def test_stream_that_had_begun_is_not_posted(world: World) -> None:
    """A webhook that is added in mid-stream begins with the next stream."""
    source = world.publish()
    source.send("begun")
    await world.add(Posting.NONE)
    source.send("and ended")
    source.end()
    world.say("whole")
    assert await world.poster.wait(1) == [b"whole"]


async def test_whole_stream_that_had_begun_is_not_posted(world: World) -> None:
    """Nor one that nobody may join in mid-stream, and the stream after that is posted."""
    reader = world.people.on("alice", Mode.SUBSCRIBE, "build")
    source = publisher(world.service.router, BUILD, whole=True)
    source.send("begun")
    await world.add(Posting.NONE)
    source.send("and ended")
    source.end()
    reader.leave()
    world.say("whole")
    assert await world.poster.wait(1) == [b"whole"]


@pytest.mark.parametrize("rest", ["", "tail"])
async def test_right_that_comes_in_mid_stream(world: World, rest: str) -> None:
    """What may be read of a stream is not posted as if it were all, however much of it is left."""
    await world.add(Posting.NONE, "bob")
    source = world.publish()
    source.send("head ")
    await world.people.run("alice", "grant build bob --read")
    source.send(*[rest] * bool(rest))
    source.end()
    world.say("whole")
    assert await world.poster.wait(1) == [b"whole"]
    assert world.dropped("broken") == 1


@pytest.mark.parametrize("within", [True, False])
async def test_right_that_goes_in_mid_stream(world: World, within: bool) -> None:
    """What was heard before that is no beginning of what is heard once the right is back.

    Whether that is in the same stream, or after its end.
    """
    await world.people.run("alice", "grant build bob --read")
    await world.add(Posting.NONE, "bob")
    source = world.publish()
    source.send("one ")
    await world.people.run("alice", "revoke build bob")
    source.send("two ")
    if not within:
        source.end()
    await world.people.run("alice", "grant build bob --read")
    source.send("three")
    source.end()
    world.say("whole")
    assert await world.poster.wait(1) == [b"whole"]


async def test_long_body_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too long is cut off, a header has its length, and the owner is told."""
    monkeypatch.setattr("pipe.events.webhooks.cutting.MAX_BODY_BYTES", 8)
    await world.add(Posting.NONE)
    world.say("0123456789")
    assert await world.poster.wait(1) == [b"01234567"]
    assert world.poster.posts[0].headers["Pipe-Truncated"] == "10"
    await until(lambda: world.events() == ["webhook cut off"])


@pytest.mark.usefixtures("quick")
async def test_tries_again(world: World) -> None:
    """What fails is sent again, with the same ID, until it arrives, and the owner knows both."""
    courier = await world.add()
    world.poster.answer = BAD
    world.say("one\n")
    await world.poster.wait(2)
    world.poster.answer = GOOD
    await until(lambda: not courier.waiting)
    assert len({post.headers["webhook-id"] for post in world.poster.posts}) == 1
    assert world.events() == ["webhook fails", "webhook works again"]
    assert (courier.health.failing_since, courier.health.problem) == (None, "")
    results = [one.answer.result for one in courier.recent]
    assert results[:2] == [Result.REFUSED, Result.REFUSED]
    assert results[-1] is Result.DELIVERED


@pytest.mark.usefixtures("quick")
async def test_gives_up(world: World) -> None:
    """What fails too often is dropped, counted and told, and the webhook goes on."""
    courier = await world.add()
    world.poster.answer = BAD
    world.say("one\n")
    await until(lambda: courier.dropped)
    assert len(world.poster.posts) == 4
    world.poster.answer = GOOD
    world.say("two\n")
    assert (await world.poster.wait(5))[-1] == b"two"
    await until(lambda: "webhook works again" in world.events())
    assert world.events()[:2] == ["webhook fails", "webhook did not send"]
    assert world.dropped("given-up") == 1


@pytest.mark.usefixtures("quick")
async def test_pauses_after_a_day(world: World) -> None:
    """One that has not worked for a day is paused and reads no more, until it is resumed."""
    courier = await world.add(health=Health(None, time.time() - 86_401.0, "answered 500"))
    world.poster.answer = BAD
    world.say("one\n", "two\n")
    await until(lambda: courier.webhook.state is WebhookState.PAUSED)
    assert (await world.state()).state is WebhookState.PAUSED
    assert world.events()[0] == "webhook paused"
    assert courier.waiting == 0
    count = len(world.poster.posts)
    world.say("three\n")

    world.poster.answer = GOOD
    await world.service.store.webhooks.set_state("alice", ID, WebhookState.ACTIVE)
    await world.webhooks.follow("alice")
    world.say("four\n")
    assert (await world.poster.wait(count + 1))[count:] == [b"four"]


async def test_gone_is_removed(world: World) -> None:
    """A receiver that answers 410 gets nothing more: the webhook is gone, and its owner told."""
    await world.add()
    world.poster.answer = GONE
    world.say("one\n", "two\n")
    await until(lambda: not world.webhooks.of("alice"))
    assert await world.service.store.webhooks.list_webhooks() == ()
    assert world.events() == ["webhook removed"]
    assert len(world.poster.posts) == 1


async def test_database_away_while_it_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it cannot be removed now, the next try tries again."""
    courier = await world.add()
    world.poster.answer = GONE
    store = world.service.store.webhooks

    async def fail(*_: object) -> Webhook:
        raise StoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", fail)
        world.say("one\n")
        await until(lambda: courier.recent and not world.poster.under_way)
        await asyncio.sleep(0)
    assert courier.waiting == 1
    assert world.webhooks.of("alice")


async def test_full(world: World) -> None:
    """With nobody who takes them, a hundred lines wait; the newest are dropped, and counted."""
    courier = await world.add()
    world.poster.open.clear()
    world.say(*(f"{number}\n" * 10 for number in range(20)))
    await world.poster.wait(1)
    assert courier.waiting == 100
    assert courier.dropped == 100
    assert world.dropped("full") == 100
    assert world.webhooks.waiting == 100
    world.poster.open.set()
    bodies = await world.poster.wait(100)
    assert bodies == [f"{number}".encode() for number in range(10) for _ in range(10)]
    await until(lambda: "webhook did not send" in world.events())
    [fields] = [fields for _, event, fields in world.told if event == "webhook did not send"]
    assert fields["count"] == 100


async def test_losses_are_told_once_a_minute(world: World) -> None:
    """However many are dropped, the owner is told once, and then not for a while."""
    courier = await world.add()
    world.poster.open.clear()
    world.say("x\n" * 150)
    await until(lambda: world.events() == ["webhook did not send"])
    for _ in range(10):
        world.say("x\n" * 10)
        await asyncio.sleep(0)
    assert world.events() == ["webhook did not send"]
    assert courier.dropped == 150


async def test_memory_of_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All webhooks together keep so much and no more."""
    monkeypatch.setattr(courier_module, "MAX_ALL_BYTES", 10)
    first = await world.add()
    second = await world.add(user="bob", topic=TopicName("bob", ("x",)), number="d" * 12)
    world.poster.open.clear()
    world.say("0123456789\n")
    source = world.publish(TopicName("bob", ("x",)))
    source.send("more\n", "mo")
    assert world.webhooks.shared.held == 10
    assert (first.waiting, second.waiting) == (1, 0)
    assert second.dropped == 1
    world.poster.open.set()
    await until(lambda: not first.waiting)
    source.send("re\n", "fits\n")
    bodies = await world.poster.wait(2)
    assert bodies[1:] in ([b"fits"], [b"", b"fits"])
    source.end()


async def test_four_at_once(world: World) -> None:
    """A user has four under way, whatever hangs, and another user's go on."""
    world.poster.open.clear()
    for number in range(6):
        await world.add(number=str(number) * 12)
    await world.add(user="bob", topic=TopicName("bob", ("x",)), number="d" * 12)
    world.say("one\n")
    await world.poster.wait(4)
    source = world.publish(TopicName("bob", ("x",)))
    source.send("bob's\n")
    source.end()
    assert (await world.poster.wait(5))[-1] == b"bob's"
    assert world.poster.under_way == 5
    world.poster.open.set()
    await world.poster.wait(7)


async def test_no_right_no_posts(world: World) -> None:
    """Another's topic is read only while it is granted: what still waits then is dropped."""
    people = world.people
    await people.run("alice", "grant build bob --read")
    courier = await world.add(user="bob")
    world.poster.open.clear()
    source = world.publish()
    source.send("one\n", "two\n")
    await world.poster.wait(1)
    await people.run("alice", "revoke build bob")
    source.send("three\n")
    source.end()
    world.poster.open.set()
    await until(lambda: not courier.waiting)
    world.say("four\n")
    assert await world.poster.wait(1) == [b"one"]
    assert world.dropped("denied") == 1

    await people.run("alice", "grant build bob --read")
    world.say("five\n")
    assert await world.poster.wait(2) == [b"one", b"five"]


async def test_grant_to_a_key_is_none(world: World) -> None:
    """A webhook logs in with no key, so grants to keys do not count."""
    key = world.people.caller("bob").fingerprint
    await world.people.run("alice", f"grant build {key} --read")
    assert not world.webhooks.may_read("bob", BUILD)


async def test_keeps_no_topic_open(world: World) -> None:
    """A webhook is a reader where somebody writes, and is not there where nobody is."""
    await world.add()
    router = world.service.router
    assert BUILD not in router
    waiting = world.people.on("alice", Mode.PUBLISH, "build")
    assert waiting.source
    assert not waiting.source.waiting
    waiting.leave()
    assert BUILD not in router


async def test_follows_other_servers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process adds, pauses or removes is noticed, and a removed user's is gone."""
    monkeypatch.setattr(guard_module, "LOOK_SECONDS", 0.01)
    store = world.service.store
    url = "https://example.org/x"
    await store.webhooks.add(Webhook(ID, "bob", BUILD, url, Posting.LINE, "", time.time()))
    await world.service.guard.catch_up()
    courier = world.webhooks.of("bob")[ID]
    await store.webhooks.set_state("bob", ID, WebhookState.PAUSED)
    await world.service.guard.catch_up()
    assert courier.webhook.state is WebhookState.PAUSED
    await store.remove_user("bob")
    await world.service.guard.catch_up()
    assert not world.webhooks.of("bob")


async def test_test(world: World) -> None:
    """A test is sent at once, also by one that is paused, and says so in a header."""
    await world.add(Posting.NONE)
    await world.service.store.webhooks.set_state("alice", ID, WebhookState.PAUSED)
    await world.webhooks.follow("alice")
    world.poster.answer = Answer(Result.TIMEOUT, "no answer within 10 seconds")
    answer, seconds = await world.webhooks.test("alice", ID[:4])
    assert answer is world.poster.answer
    assert seconds >= 0
    [post] = world.poster.posts
    assert post.headers["Pipe-Test"] == "true"
    assert post.headers["Content-Type"] == "application/json"
    for start in ("zzzz", "a" * 13):
        with pytest.raises(StoreError, match="no webhook begins"):
            await world.webhooks.test("alice", start)
    with pytest.raises(StoreError, match="no webhook begins"):
        await world.webhooks.test("bob", ID)


async def test_tests_take_turns(world: World) -> None:
    """A user's tests come one after the other."""
    await world.add()
    await asyncio.gather(*(world.webhooks.test("alice", ID) for _ in range(5)))
    assert len(world.poster.posts) == 5
    assert world.poster.most == 1


async def test_stop_sends_what_is_due(world: World) -> None:
    """A stop reads no more, sends what is due, and loses what waits for another try."""
    courier = await world.add()
    world.poster.open.clear()
    world.say("one\n", "two\n")
    await world.poster.wait(1)
    closing = asyncio.ensure_future(world.webhooks.close(10.0))
    await asyncio.sleep(0)
    world.say("late\n")
    world.poster.open.set()
    await closing
    assert await world.poster.wait(2) == [b"one", b"two"]
    assert world.poster.closed
    assert courier.waiting == 0


async def test_stop_does_not_wait_for_ever(world: World) -> None:
    """One that hangs does not hold up a stop."""
    await world.add()
    world.poster.open.clear()
    world.say("one\n")
    await world.poster.wait(1)
    await world.webhooks.close(0.01)
    await until(lambda: not world.poster.under_way)


async def test_poster_that_fails_is_a_failure(world: World) -> None:
    """A fault of ours counts as a failed try, and stops nothing."""
    courier = await world.add()

    async def post(*_: object) -> Answer:
        raise RuntimeError("a bug")

    world.poster.post = post  # type: ignore[method-assign, assignment]
    world.say("one\n")
    await until(lambda: courier.recent)
    assert courier.recent[0].answer.result is Result.FAILED
    assert courier.waiting == 1


async def test_nothing_is_made_where_there_are_none(world: World) -> None:
    """Without a webhook there is nothing that sends, and with one not before it has something."""
    world.webhooks.make_poster = None
    world.say("one\n")
    await world.add()
    await asyncio.sleep(0)
    assert not world.poster.posts
