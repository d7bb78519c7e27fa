"""Streams between clients of two workers, with real servers, sockets and `ssh`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from random import Random
from typing import TYPE_CHECKING

import pytest

from pipe.errors import Unreachable
from pipe.events.dedupe import Sighting
from pipe.events.logs.filters import Filter
from pipe.language.names import parse_topic
from pipe.language.requests import List, Publish, Subscribe
from pipe.mesh import mesh
from pipe.mesh.frames import Frame, Kind
from pipe.mesh.home import FarFront
from pipe.mesh.unix import Sockets
from pipe.rights.callers import Caller
from pipe.ssh.channel import Channel
from tests.e2e.processes import DEADLINE
from tests.mesh.workers import Workers, on_topic, working

if TYPE_CHECKING:
    from pathlib import Path

    from pipe.language.names import TopicName
    from pipe.mesh.directory import WorkerId
    from tests.e2e.clients import KeyRing


@pytest.mark.parametrize(("home", "publishes"), [("reader", 2), ("publisher", 1)])
async def test_stream_across(workers: Workers, home: str, publishes: int) -> None:
    """Whoever comes first, a stream reaches a reader in the other worker, and both end well."""
    if home == "reader":
        sub = await workers.run(1, "sub build")
        await on_topic(workers, 1, 1)
        pub = await workers.run(publishes, "pub build", b"hello")
    else:
        pub = await workers.run(1, "pub build", b"hello")
        await on_topic(workers, 1, 1)
        sub = await workers.run(2, "sub build")
    assert await pub.status() == 0, pub.err
    assert await sub.status() == 0, sub.err
    assert sub.out == b"hello"
    assert b"sent 5 bytes to 1 subscriber" in pub.err
    assert not workers[2].topics
    await workers.until(lambda: not len(workers.homes.all))


async def test_pipe_both_ways(workers: Workers) -> None:
    """Two `pipe`s in different workers hear each other."""
    here = await workers.run(1, "pipe -c chat", None)
    await on_topic(workers, 1, 1)
    there = await workers.run(2, "pipe -c chat", None)
    await on_topic(workers, 1, 2)
    await here.write(b"ping")
    assert await there.read(4) == b"ping"
    await there.write(b"pong")
    assert await here.read(4) == b"pong"
    here.end()
    there.end()
    assert (await here.status(), await there.status()) == (0, 0)


async def test_fan_out(workers: Workers) -> None:
    """Several readers in the other worker get every byte, which crosses once for all of them."""
    data = Random(1).randbytes(3_000_000)
    here = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    there = [await workers.run(2, "sub build") for _ in range(3)]
    await on_topic(workers, 1, 4)
    runs = [here, *there]
    reading = [asyncio.ensure_future(run.status()) for run in runs]  # or the publisher has to wait
    pub = await workers.run(1, "pub -m 4 build", data)
    assert await asyncio.gather(*reading) == [0] * 4
    assert [run.out == data for run in runs] == [True] * 4
    assert await pub.status() == 0
    assert b"to 4 subscribers" in pub.err


@pytest.mark.parametrize(
    ("crowded", "moved"), [(False, [Subscribe, Publish]), (True, [Publish])], ids=["room", "crowd"]
)
async def test_who_goes_to_a_home(workers: Workers, crowded: bool, moved: list[type]) -> None:
    """A reader stays where it is if the home of its topic has enough to do."""
    workers.homes.crowded = crowded
    asked = []

    def carry(front: object, _topic: TopicName, home: WorkerId) -> bool:
        assert isinstance(front, Channel)
        assert home == workers[1].me
        asked.append(type(front.session._request))  # noqa: SLF001
        return False

    workers[2].mesh.carry = carry
    here = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    there = await workers.run(2, "sub build")
    await on_topic(workers, 1, 2)
    pub = await workers.run(2, "pub -m 2 build", b"hello")
    assert [await run.status() for run in (pub, here, there)] == [0, 0, 0]
    assert [here.out, there.out] == [b"hello"] * 2
    assert asked == moved


async def test_waits_for_subscribers(workers: Workers) -> None:
    """``-m 2`` counts readers wherever they are, and its user is told."""
    first = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    pub = await workers.run(2, "pub -m 2 build", b"both")
    await on_topic(workers, 1, 2)
    assert pub.process.returncode is None
    second = await workers.run(2, "sub build")
    assert [await run.status() for run in (first, second, pub)] == [0] * 3
    assert [bytes(run.out) for run in (first, second)] == [b"both"] * 2
    assert b"waiting for 1 subscriber" in pub.err


async def test_gives_up_waiting(workers: Workers) -> None:
    """The patience of a publisher whose topic is elsewhere ends as it would here."""
    hold = await workers.run(1, "pub build", None)
    await on_topic(workers, 1, 1)
    pub = await workers.run(2, "pub -t 100ms build", b"x")
    assert await pub.status() == 75
    assert b"gave up" in pub.err
    hold.process.kill()


async def test_round_robin(workers: Workers) -> None:
    """Records are dealt out whole to readers here and there."""
    here = await workers.run(1, "sub jobs")
    await on_topic(workers, 1, 1)
    there = await workers.run(2, "sub jobs")
    await on_topic(workers, 1, 2)
    lines = [f"job {number}\n".encode() for number in range(1000)]
    pub = await workers.run(2, "pub -d round_robin --frame line jobs", b"".join(lines))
    assert [await run.status() for run in (here, there, pub)] == [0] * 3
    assert sorted((here.out + there.out).splitlines(keepends=True)) == sorted(lines)
    assert len(here.out.splitlines()) == len(there.out.splitlines()) == 500


async def test_past(workers: Workers) -> None:
    """A reader that comes late from elsewhere gets what is kept."""
    pub = await workers.run(1, "pub -b=false --keep 1MiB build", None)
    await pub.write(b"early ")
    await workers.until(lambda: workers[1].service.router.kept_bytes)
    sub = await workers.run(2, "sub --last 1MiB build")
    await on_topic(workers, 1, 2)
    await pub.write(b"late")
    pub.end()
    assert (await pub.status(), await sub.status()) == (0, 0)
    assert sub.out == b"early late"


async def test_exit_status(workers: Workers) -> None:
    """What a publisher leaves with ``-x`` is what a reader elsewhere exits with."""
    sub = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    pub = await workers.run(2, "pub -x 7 build", b"x")
    assert (await pub.status(), await sub.status()) == (0, 7)


async def test_link_to_a_reader_is_cut(workers: Workers) -> None:
    """In mid-stream the reader is told that it broke, and its publisher that it is alone."""
    pub = await workers.run(1, "pub --whole build", None)
    await on_topic(workers, 1, 1)
    sub = await workers.run(2, "sub build")
    await pub.write(b"half")
    assert await sub.read(4) == b"half"
    workers[2].mesh.close()
    assert (await sub.status(), await pub.status()) == (74, 74)
    assert b"the stream broke: worker 1 is gone" in sub.err
    await workers.until(lambda: not len(workers.homes.all))


async def test_link_to_a_publisher_is_cut(workers: Workers) -> None:
    """In mid-stream both are told that the stream broke."""
    sub = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    pub = await workers.run(2, "pub build", None)
    await pub.write(b"half")
    assert await sub.read(4) == b"half"
    workers[2].mesh.close()
    assert (await sub.status(), await pub.status()) == (74, 74)
    assert b"the stream broke: worker 1 is gone" in pub.err
    await workers.until(lambda: not len(workers.homes.all))


async def test_stalled_reader_elsewhere(tmp_path: Path, keys: KeyRing) -> None:
    """Law 4: a reader elsewhere that takes nothing while others wait is cut off."""
    async with working(tmp_path, keys, stall_timeout=2.0) as workers:
        good = await workers.run(1, "sub build")
        await on_topic(workers, 1, 1)
        bad = await workers.run(2, "sub build", options=("-o", "LogLevel=ERROR"))
        await on_topic(workers, 1, 2)
        bad.process.send_signal(signal.SIGSTOP)
        data = Random(2).randbytes(16 << 20)
        pub = await workers.run(1, "pub build", None)
        writing = asyncio.ensure_future(pub.write(data))
        assert good.process.stdout
        got = await good.read(len(data))
        await writing
        pub.end()
        assert got == data
        assert (await pub.status(), await good.status()) == (0, 0)
        assert b"1 of them left early" in pub.err
        bad.process.send_signal(signal.SIGCONT)
        assert await bad.status() in {74, 255}


async def test_interrupted(workers: Workers) -> None:
    """Ctrl-C at a reader's terminal ends its session at its topic's home, too."""
    pub = await workers.run(1, "pub -b=false build", None)
    await on_topic(workers, 1, 1)
    sub = await workers.run(2, "sub build", None, options=("-tt",))
    await on_topic(workers, 1, 2)
    await sub.write(b"\x03")
    assert await sub.status() == 130
    await on_topic(workers, 1, 1)
    pub.end()
    assert await pub.status() == 74, "its only reader has left early"


async def test_client_is_killed(workers: Workers) -> None:
    """A publisher elsewhere whose client is killed breaks the stream of its readers."""
    sub = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    pub = await workers.run(2, "pub build", None)
    await pub.write(b"half")
    assert await sub.read(4) == b"half"
    pub.process.kill()
    assert await sub.status() == 74


async def test_reader_leaves_early(workers: Workers) -> None:
    """A reader elsewhere that goes before the end has left early, as its publisher is told."""
    pub = await workers.run(1, "pub -m 2 build", None)
    await on_topic(workers, 1, 1)
    stays = await workers.run(1, "sub build")
    goes = await workers.run(2, "sub build")
    await pub.write(b"some")
    assert await goes.read(4) == b"some"
    goes.process.kill()
    await on_topic(workers, 1, 2)
    pub.end()
    assert (await pub.status(), await stays.status()) == (0, 0)
    assert b"to 2 subscribers, 1 of them left early" in pub.err


async def test_reader_whose_stdout_is_gone(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the status of SIGPIPE at once, and not only when its topic's home has answered."""
    taken = FarFront.taken

    def taken_late(front: FarFront, frame: Frame) -> None:
        if frame.kind is not Kind.DEAF:
            taken(front, frame)

    monkeypatch.setattr(FarFront, "taken", taken_late)
    stays = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    goes = await workers.run(2, "sub -k build")
    await on_topic(workers, 1, 2)
    goes.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # noqa: SLF001
    pub = await workers.run(1, "pub build", None)
    await pub.write(b"some")
    assert await goes.status() == 141
    pub.end()
    assert (await pub.status(), await stays.status()) == (0, 0)
    assert b"to 2 subscribers, 1 of them left early" in pub.err


async def test_confirms(workers: Workers) -> None:
    """A publisher is told that a reader elsewhere has everything only when its client says so."""
    sub = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    pub = await workers.run(2, "pub build", None)
    await pub.write(b"some")
    assert await sub.read(4) == b"some"
    sub.process.send_signal(signal.SIGSTOP)
    pub.end()
    (home,) = [one for one in workers[1].service.sessions if one.member and one.member.source]
    await workers.until(lambda: home.member and home.member.awaits)
    assert pub.process.returncode is None
    sub.process.send_signal(signal.SIGCONT)
    assert (await pub.status(), await sub.status()) == (0, 0)


async def test_held_stream_goes_on(workers: Workers) -> None:
    """A publisher elsewhere whose connection is lost goes on where it was, with ``--hold``."""
    sub = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    pub = await workers.run(2, "pub --hold 1m build", None)
    await pub.write(b"one ")
    assert await sub.read(4) == b"one "
    pub.process.kill()
    await workers.until(lambda: workers[1].holds_a_stream)
    again = await workers.run(2, "pub --hold 1m --at 4 build", b"two")
    assert (await again.status(), await sub.status()) == (0, 0)
    assert sub.out == b"two"


async def test_held_when_the_link_is_cut(workers: Workers) -> None:
    """The same, where it is the link that is lost."""
    sub = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    pub = await workers.run(2, "pub --hold 1m build", None)
    await pub.write(b"one ")
    assert await sub.read(4) == b"one "
    workers[2].mesh.close()
    assert await pub.status() == 74
    await workers.until(lambda: workers[1].holds_a_stream)
    again = await workers.run(2, "pub --at 4 build", b"two")
    assert (await again.status(), await sub.status()) == (0, 0)
    assert sub.out == b"two"


async def test_refused_elsewhere(workers: Workers) -> None:
    """Who has no right to a topic is told by its home, which keeps nothing of the attempt."""
    pub = await workers.run(1, "pub build", None)
    await on_topic(workers, 1, 1)
    sub = await workers.run(2, "sub alice/build", user="bob")
    assert await sub.status() == 77
    assert b"access denied" in sub.err
    pub.process.kill()
    await workers.until(lambda: not len(workers.homes.all))


async def test_home_that_fails(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault at the home ends a session from elsewhere, and its join counts no longer."""

    async def fail() -> None:
        raise RuntimeError("a fault")

    pub = await workers.run(1, "pub build", None)
    await on_topic(workers, 1, 1)
    monkeypatch.setattr(workers[1].service.guard, "catch_up", fail)
    sub = await workers.run(2, "sub build")
    assert await sub.status() == 70
    assert not workers[1].mesh._coming  # noqa: SLF001
    pub.process.kill()
    await workers.until(lambda: not len(workers.homes.all))


async def test_join_that_never_comes(workers: Workers) -> None:
    """A client that goes while its topic's home is looked up leaves the directory as it was."""
    entered = asyncio.Event()
    release = asyncio.Event()
    desk = workers[2].desk
    enter = desk.enter

    async def slow(topic: object) -> object:
        found = await enter(topic)  # type: ignore[arg-type]
        entered.set()
        await release.wait()
        return found

    pub = await workers.run(1, "pub build", None)
    await on_topic(workers, 1, 1)
    desk.enter = slow  # type: ignore[method-assign, assignment]
    sub = await workers.run(2, "sub build")
    await entered.wait()
    sub.process.kill()
    await workers.until(lambda: not workers[2].service.sessions)
    release.set()
    pub.process.kill()
    await workers.until(lambda: not len(workers.homes.all))


async def test_command_about_a_topic(workers: Workers) -> None:
    """`stat` answers where the topic is at home, whoever is asked."""
    sub = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    here = await workers.run(1, "stat --json build")
    there = await workers.run(2, "stat --json build")
    assert (await here.status(), await there.status()) == (0, 0)
    assert b"subscribe" in there.out
    sub.process.kill()


async def test_follows_elsewhere(workers: Workers) -> None:
    """An answer that goes on comes from the first worker, until its client has enough."""
    logs = await workers.run(2, "logs", None)
    await workers.until(lambda: workers[1].service.sessions)
    sub = await workers.run(1, "pub -b=false --empty noise")
    assert await sub.status() == 0
    assert logs.process.stdout
    line = await asyncio.wait_for(logs.process.stdout.readline(), DEADLINE)
    assert b"alice" in line or b"session ended" in line
    logs.process.kill()
    await workers.until(lambda: not workers[1].service.sessions)


async def test_questions(workers: Workers) -> None:
    """The other workers answer what they are asked."""
    sub = await workers.run(2, "sub build", None)
    await on_topic(workers, 2, 1)
    answers = await workers[1].mesh.ask(List(), Caller("alice", "key"))
    [line] = [line for text in answers.found for line in text.splitlines()]
    assert json.loads(line)["facts"]["topic"] == "alice/build"
    assert answers.missing == []
    sub.process.kill()


async def test_push_is_told_once(workers: Workers) -> None:
    """Whichever workers hear of a push, and in whatever order, one of them tells it."""
    for number in (1, 2):
        pushed = Sighting(f"alice/alpine:{number}@sha256:0", pushed=True)
        assert await workers[number].service.once.is_new(pushed)
        assert not await workers[3 - number].service.once.is_new(pushed)
        assert not await workers[number].service.once.is_new(pushed)
    assert await workers[2].service.once.is_new(Sighting("alice/alpine:1@sha256:0"))


async def test_told_twice_rather_than_not(workers: Workers) -> None:
    """While nobody has the duties of one, each worker judges by what it knows itself."""
    workers.known.clear()
    pushed = Sighting("alice/alpine:latest@sha256:0", pushed=True)
    assert await workers[2].service.once.is_new(pushed)
    assert not await workers[2].service.once.is_new(pushed)


async def test_first_worker_cannot_be_reached_for_long(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told something does not wait until a link to a worker that stands still has ended."""
    monkeypatch.setattr(mesh, "ASK_SECONDS", 0.01)

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(workers[2].mesh, "_edge", never)
    assert await workers[2].service.once.is_new(Sighting("alice/alpine:latest@sha256:0"))


async def test_announcement_that_is_not_answered(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody says that there was no room for what may be published."""
    sub = await workers.run(1, "sub build", None)
    await on_topic(workers, 1, 1)
    topic = parse_topic("build", caller="alice")
    monkeypatch.setattr("pipe.mesh.mesh.send_answer", lambda *_: None)
    monkeypatch.setattr("pipe.mesh.asking.ASK_SECONDS", 0.01)
    assert await workers[2].service.announce(topic, b"line") is None
    assert await sub.read(4) == b"line"


async def test_lines_about_a_user_in_another_worker(workers: Workers) -> None:
    """`logs` shows them as it shows those of its own worker, also what strangers have tried."""
    logs = workers[1].service.logs
    pub = await workers.run(2, "pub -b=false --empty noise")
    assert await pub.status() == 0
    await workers.until(lambda: logs.past("alice", Filter(), 9))
    stranger = await workers.run(2, "whoami", options=("-o", "User=alice"), user="mallory")
    assert await stranger.status() == 255
    await workers.until(lambda: len(logs.past("alice", Filter(), 9)) == 2)
    ended, refused = map(json.loads, logs.past("alice", Filter(), 9))
    assert (ended["msg"], ended["topic"]) == ("session ended", "alice/noise")
    assert (refused["msg"], refused["level"]) == ("login refused", "WARN")
    shown = await workers.run(2, "logs -f=false")
    assert await shown.status() == 0
    assert len(shown.out.splitlines()) == 2


async def test_receipt_of_a_topic_that_has_closed(workers: Workers) -> None:
    """Who asks for it finds it from any worker, and then the topic may be anywhere."""
    sub = await workers.run(1, "sub build")
    await on_topic(workers, 1, 1)
    sub.process.send_signal(signal.SIGSTOP)
    pub = await workers.run(2, "pub --hold 1m build", b"some")
    await on_topic(workers, 1, 2)
    (home,) = [one for one in workers[1].service.sessions if one.member and one.member.source]
    await workers.until(lambda: home.member and home.member.awaits)
    pub.process.kill()
    await workers.until(lambda: workers[1].service.holds.receipts)
    sub.process.send_signal(signal.SIGCONT)
    assert await sub.status() == 0
    await workers.until(lambda: not workers[1].topics)
    for number in (2, 1):
        again = await workers.run(number, "pub --at 4 build")
        assert await again.status() == 0, again.err
        assert b"sent 4 bytes to 1 subscriber" in again.err
    (name,) = workers[1].service.holds.receipts
    assert len(workers.homes.all) == 1
    workers[1].service.holds.drop_ended(name)
    assert not len(workers.homes.all)


@pytest.mark.parametrize("publishes", [1, 2])
async def test_many_bytes(workers: Workers, publishes: int) -> None:
    """64 MiB arrive as they were, and neither side of the link keeps more than a few of them."""
    piece = Random(3).randbytes(1 << 20)
    sub = await workers.run(1 if publishes == 2 else 2, "sub build")
    sub.keeps = False
    reading = asyncio.ensure_future(sub.status())
    await workers.until(lambda: workers[1].topics | workers[2].topics)
    pub = await workers.run(publishes, "pub build", None)
    expected = hashlib.sha256()
    for _ in range(64):
        expected.update(piece)
        await pub.write(piece)
    pub.end()
    assert (await pub.status(), await reading) == (0, 0)
    assert sub.hash.digest() == expected.digest()


async def test_home_that_has_just_died(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes to a topic whose home dies at that moment gets it anew, in a worker that lives."""
    pub = await workers.run(1, "pub build", None)
    await on_topic(workers, 1, 1)

    async def die(*_: object) -> None:
        del workers.known[workers[1].me]
        workers.homes.all.died(workers[1].me)
        raise Unreachable("worker 1 cannot be reached")

    monkeypatch.setattr(Sockets, "connect", die)
    sub = await workers.run(2, "sub build")
    await on_topic(workers, 2, 1)
    for run in (pub, sub):
        run.process.kill()


async def test_home_that_cannot_be_reached(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes to a topic whose home lives and cannot be reached is told so, and not counted."""
    monkeypatch.setattr(mesh, "NEWS_SECONDS", 0.01)
    pub = await workers.run(1, "pub build", None)
    await on_topic(workers, 1, 1)

    async def fail(*_: object) -> None:
        raise Unreachable("worker 1 cannot be reached: try again")

    monkeypatch.setattr(Sockets, "connect", fail)
    sub = await workers.run(2, "sub build")
    assert await sub.status() == 69
    assert b"worker 1 cannot be reached: try again" in sub.err
    pub.process.kill()
    await workers.until(lambda: not len(workers.homes.all))
