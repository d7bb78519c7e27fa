"""A session's way onto its topics."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncssh

from pipe.errors import Outcome
from pipe.limits.quotas import Holder, Resource, Scope
from pipe.limits.turns import BUDGET_SECONDS
from pipe.session.session import Session
from pipe.stream.ports import Mode
from tests.ssh.serving import connect, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import pytest

    from pipe.stream.router import Router
    from pipe.stream.topics import Member


READERS = 10

ALICE = Holder(Scope.USER, "alice")


@contextlib.asynccontextmanager
async def counted_turns() -> AsyncIterator[Callable[[], int]]:
    """Give what tells how many turns the event loop has made."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    yield lambda: turns
    counting.cancel()


async def test_readers_on_patterns_join_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a user starts at once, each looks at all topics in a turn of its own."""
    joined: list[int] = []
    all_joined = asyncio.Event()

    async with serving(tmp_path) as service, counted_turns() as turns:
        join = service.router.join_pattern

        def note(_router: Router, *arguments: object) -> None:
            joined.append(turns())
            if len(joined) == READERS:
                all_joined.set()
            join(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(type(service.router), "join_pattern", note)
        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        readers = await asyncio.gather(*(alice.create_process("sub '**'") for _ in range(READERS)))
        await all_joined.wait()
        assert len(set(joined)) == READERS
        for reader in readers:
            reader.close()
        alice.close()


async def test_readers_on_patterns_leave_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many hang up at once, a turn takes no more of them off all topics than fit it."""
    left: list[int] = []
    all_left = asyncio.Event()

    async with serving(tmp_path) as service, counted_turns() as turns:
        leave = service.router.leave

        def note(_router: Router, member: Member) -> None:
            left.append(turns())
            leave(member)
            service.turns.use(BUDGET_SECONDS)  # as if there were very many
            if len(left) == READERS:
                all_left.set()

        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        for _ in range(READERS):
            await alice.create_process("sub '**'")
        while service.quotas.held(Resource.PATTERNS, ALICE) < READERS:  # noqa: ASYNC110
            await asyncio.sleep(0)
        monkeypatch.setattr(type(service.router), "leave", note)
        alice.abort()
        await all_left.wait()
        assert len(set(left)) == READERS
        assert not service.quotas.held(Resource.PATTERNS, ALICE)


async def test_reader_that_goes_before_its_turn(tmp_path: Path) -> None:
    """Who hangs up before it has joined leaves nothing behind."""
    async with serving(tmp_path) as service:
        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        async with service.joining.turn("alice"):
            reader = await alice.create_process("sub '**'")
            reader.close()
            await reader.wait_closed()
        assert not any(service.router.statistics().sessions.values())
        assert not service.quotas.held(Resource.PATTERNS, ALICE)
        alice.close()


async def test_sessions_begin_within_the_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that come together are begun as a turn has time for them, in their order."""
    joined: list[int] = []
    all_joined = asyncio.Event()

    async with serving(tmp_path) as service, counted_turns() as turns:
        join = service.router.join

        def note(_router: Router, *arguments: object) -> None:
            joined.append(turns())
            join(*arguments)  # type: ignore[arg-type]
            service.turns.use(BUDGET_SECONDS)  # as if it took long
            if len(joined) == READERS:
                all_joined.set()

        monkeypatch.setattr(type(service.router), "join", note)
        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        readers = await asyncio.gather(*(alice.create_process("sub x") for _ in range(READERS)))
        await all_joined.wait()
        assert len(set(joined)) == READERS
        for reader in readers:
            reader.close()
        alice.close()


async def test_quotas_are_given_back_before_the_ends_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hangs up with many sessions may come back at once, however long the log takes."""
    async with serving(tmp_path) as service:
        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        for _ in range(READERS):
            await alice.create_process("sub x")
        while service.router.statistics().sessions[Mode.SUBSCRIBE] < READERS:  # noqa: ASYNC110
            await asyncio.sleep(0)
        told: list[int] = []
        report = Session._conclude  # noqa: SLF001

        def note(session: Session, *arguments: Any) -> None:  # noqa: ANN401
            told.append(service.quotas.held(Resource.SESSIONS, ALICE))
            report(session, *arguments)

        monkeypatch.setattr(Session, "_conclude", note)
        alice.abort()
        while len(told) < READERS:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert told == [0] * READERS
        assert not service.sessions


async def test_whole_stream_waits_for_no_other_reader(tmp_path: Path) -> None:
    """Who sent all of it and hung up is not kept for readers to come, once those there have left.

    Nobody would be told, and the topic would be taken for as long as a publisher may wait.
    """
    async with serving(tmp_path, buffer=1 << 16) as service:
        key = asyncssh.generate_private_key("ssh-ed25519")
        alice, other = [await connect(service, "alice", key) for _ in range(2)]
        await other.create_process("sub x", encoding=None, window=1 << 15)
        while not service.router.statistics().sessions[Mode.SUBSCRIBE]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        writer = await alice.create_process("pub x", encoding=None)
        writer.stdin.write(bytes(1 << 19))
        writer.stdin.write_eof()
        while not any(waits(one) for one in service.sessions):  # noqa: ASYNC110
            await asyncio.sleep(0)
        alice.abort()
        while not service.orphans:  # noqa: ASYNC110
            await asyncio.sleep(0)
        other.abort()
        while service.sessions:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not service.orphans
        assert not service.router.statistics().topics


async def test_stream_of_who_is_gone_elsewhere_waits_for_no_other_reader(tmp_path: Path) -> None:
    """Nor is one kept whose client has left another worker, with the rest on its way from there."""
    async with serving(tmp_path) as service:
        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        reader = await alice.create_process("sub x")
        writer = await alice.create_process("pub x")
        writer.stdin.write("some")
        assert await reader.stdout.readexactly(4) == "some"
        (live,) = [one for one in service.sessions if one.member and one.member.source]
        live.abandon()  # type: ignore[attr-defined]
        reader.close()
        await writer.wait_closed()
        assert writer.exit_status == Outcome.BROKEN.status
        assert not service.router.statistics().topics
        alice.close()


def waits(live: Any) -> bool:  # noqa: ANN401
    """Whether a session has all of its stream, and readers that lack some of it."""
    complete: bool = live._intake.complete_but_waiting  # noqa: SLF001
    return complete
