"""Why connections end: one reason each, in the metric, the log line and for their sessions."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

import asyncssh
import pytest
import pytest_asyncio
import structlog
from asyncssh.constants import MSG_CHANNEL_CLOSE
from asyncssh.packet import UInt32

from pipe.errors import Ending, StoreUnavailable
from pipe.limits.quotas import Holder, Resource, Scope
from pipe.ssh.auth import Peer
from pipe.ssh.login.logins import Logins
from pipe.ssh.tries import MAX_AUTH_REQUESTS
from tests.e2e.processes import DEADLINE

from .serving import (
    FAILURE,
    HOST,
    KEY_IS_GOOD,
    RawClient,
    connect,
    refusal,
    run,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pipe.service import Service

ALICES = asyncssh.generate_private_key("ssh-ed25519")
OTHER = asyncssh.generate_private_key("ssh-ed25519")


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A server that trusts no address, and charges for an hour."""
    settings = {"trusted_sources": "none", "penalty_no_login": 3600.0, "penalty_max": 3600.0}
    async with serving(tmp_path / "data", **settings) as service:
        yield service


def ended(service: Service) -> dict[str, int]:
    """How many connections have ended, by why."""
    counts = {
        ending.label: int(
            service.metrics.registry.get_sample_value(
                "pipe_disconnects_total", {"reason": ending.label}
            )
            or 0
        )
        for ending in Ending
    }
    return {label: count for label, count in counts.items() if count}


async def wait_ended(service: Service, count: int = 1) -> dict[str, int]:
    """The same, once there are so many."""
    async with asyncio.timeout(DEADLINE):
        while sum(ended(service).values()) < count:  # noqa: ASYNC110 - asyncssh tells nobody
            await asyncio.sleep(0.005)
    return ended(service)


async def send(service: Service, *data: bytes) -> None:
    """Connect, send, and wait until the server hangs up."""
    reader, writer = await asyncio.open_connection(HOST, service.port)
    for piece in data:
        writer.write(piece)
    with contextlib.suppress(ConnectionError):  # it hangs up on what it does not want to read
        while await reader.read(1000):
            pass
    writer.close()


def charged(service: Service) -> bool:
    """Whether this machine's address has been charged with something."""
    return (
        service.metrics.registry.get_sample_value("pipe_refused_total", {"reason": "penalty"}) or 0
    ) > 0


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-1.0-old\r\n",
        b"SSH-2.0-\xff\r\n",
        b"SSH-2.0-x\r\n" + b"\xff" * 100,
        b"SSH-2.0-x\r\n" + bytes((0, 0, 0, 12, 10, 50, *range(10))),
    ],
    ids=["version", "bytes", "length", "login before keys"],
)
async def test_protocol(service: Service, data: bytes) -> None:
    """Who breaks the rules is cut off, and its address charged."""
    await send(service, data)
    assert await wait_ended(service) == {"protocol": 1}
    await send(service)
    assert charged(service)


async def probe(service: Service, data: bytes = b"", *, abort: bool = False) -> None:
    """Connect, look at the banner, say this and hang up."""
    reader, writer = await asyncio.open_connection(HOST, service.port)
    assert (await reader.readline()).startswith(b"SSH-2.0-")
    writer.write(data)
    if abort:
        writer.transport.abort()
    else:
        writer.close()
        await writer.wait_closed()


def logins(service: Service, result: str) -> float | None:
    """How many logins have ended so."""
    labels = {"result": result}
    return service.metrics.registry.get_sample_value("pipe_logins_total", labels)


async def test_health_checks(tmp_path: Path) -> None:
    """Who hangs up without a packet is told apart from who failed to log in, and not at info.

    A trusted source may do so as often as it likes.
    """
    with structlog.testing.capture_logs() as logs:
        async with serving(tmp_path / "data", penalty_min=0.5) as service:
            await probe(service)
            await probe(service, b"SSH-2.0-check\r\n")
            await probe(service, abort=True)
            assert await wait_ended(service, 3) == {"probe": 3}
    assert [line["log_level"] for line in logs] == ["debug"] * 3
    assert (logins(service, "probe"), logins(service, "failed")) == (3, 0)
    assert not charged(service)


async def test_health_checks_of_strangers(service: Service) -> None:
    """They are charged as sshd's noauth."""
    await probe(service)
    await wait_ended(service)
    await send(service)
    assert charged(service)


async def test_no_health_check(service: Service) -> None:
    """Who has begun to speak SSH and then goes has failed to log in."""
    ignore = bytes((0, 0, 0, 12, 6, 2, 0, 0, 0, 0, *range(6)))
    with structlog.testing.capture_logs() as logs:
        await probe(service, b"SSH-2.0-x\r\n" + ignore)
        assert await wait_ended(service) == {"lost": 1}
    assert [(line["event"], line["log_level"], line["client"]) for line in logs] == [
        ("connection without login", "info", "x")
    ]
    assert (logins(service, "probe"), logins(service, "failed")) == (0, 1)


async def test_client_goes(service: Service) -> None:
    """With a goodbye, or without one."""
    connection = await connect(service, "alice", ALICES)
    connection.close()
    await connection.wait_closed()
    assert await wait_ended(service) == {"client": 1}
    connection = await connect(service, "alice", ALICES)
    connection.abort()
    assert await wait_ended(service, 2) == {"client": 1, "lost": 1}


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.parametrize("stalled", [False, True], ids=["reading", "stalled"])
async def test_memory_comes_free_at_once(service: Service, rudely: bool, stalled: bool) -> None:
    """A connection and its sessions are in no cycle of references once they have ended."""
    gc.disable()
    try:
        connection = await connect(service, "alice", ALICES)
        for command in ("sub -k news", "pub news", "pipe room"):
            await connection.create_process(command, encoding=None)
        sessions = list(service.sessions)
        assert len(sessions) == 3
        things = [weakref.ref(session) for session in sessions]
        server_side = sessions[0].port._connection  # type: ignore[attr-defined] # noqa: SLF001
        things.append(weakref.ref(server_side))
        await run(connection, "ls")
        del sessions
        if stalled:
            server_side.pause_writing()
        (connection.abort if rudely else connection.close)()
        await wait_ended(service)
        if stalled:  # what a session says at its end, when its connection has been lost
            server_side.send_packet(MSG_CHANNEL_CLOSE, UInt32(0))
        del server_side
        async with asyncio.timeout(DEADLINE):
            while any(thing() for thing in things):  # noqa: ASYNC110 - asyncio must let go, too
                await asyncio.sleep(0.001)
    finally:
        gc.enable()


async def test_idle(service: Service) -> None:
    """A connection without a channel, also when it had one."""
    connection = await connect(service, "alice", ALICES)
    process = await connection.create_process("sub news")
    service.settings = service.settings.model_copy(update={"idle_timeout": 0.1})
    process.close()
    await connection.wait_closed()
    assert await wait_ended(service) == {"idle": 1}
    connection = await connect(service, "alice", ALICES)
    await connection.wait_closed()
    assert await wait_ended(service, 2) == {"idle": 2}


TRIES = 6


async def talk(service: Service, *requests: Callable[[RawClient], int | None]) -> list[int | None]:
    """Send requests to log in, each after the answer to the one before, and return the answers."""

    def session() -> list[int | None]:
        with contextlib.closing(RawClient(service.port)) as client:
            return [request(client) for request in requests]

    return await asyncio.to_thread(session)


def none(client: RawClient) -> int | None:
    """Ask what methods there are."""
    return client.request("alice", "none")


def stranger(client: RawClient) -> int | None:
    """Ask whether an unknown key would do."""
    return client.query("alice", asyncssh.generate_private_key("ssh-ed25519").public_data)


def hers(client: RawClient) -> int | None:
    """Ask whether a good key would do."""
    return client.query("alice", ALICES.public_data)


def password(client: RawClient) -> int | None:
    """Try what there is not."""
    return client.request("alice", "password", False, b"secret")


ALL_BUT_LAST = [FAILURE] * (TRIES - 1)


@pytest.mark.parametrize(
    ("requests", "answers"),
    [
        ([stranger] * TRIES, [*ALL_BUT_LAST, None]),
        ([none, *[stranger] * TRIES], [FAILURE, *ALL_BUT_LAST, None]),
        ([stranger, none, *[stranger] * (TRIES - 2)], [*ALL_BUT_LAST, None]),
        ([password] * TRIES, [*ALL_BUT_LAST, None]),
        ([none] * (TRIES + 1), [FAILURE, *ALL_BUT_LAST, None]),
        ([*[hers, stranger] * TRIES], [*[KEY_IS_GOOD, FAILURE] * (TRIES - 1), KEY_IS_GOOD, None]),
    ],
    ids=["keys", "none first", "none later", "passwords", "nones", "good queries between"],
)
async def test_tries(
    service: Service,
    requests: list[Callable[[RawClient], int | None]],
    answers: list[int | None],
) -> None:
    """The sixth failure is the end, as with sshd: only a "none" that comes first is free."""
    await connect(service, "alice", ALICES)
    assert await talk(service, *requests) == answers
    assert (await wait_ended(service))["tries"] == 1


@pytest.mark.parametrize("count", [TRIES - 1, TRIES])
async def test_keys_that_a_client_may_have(service: Service, count: int) -> None:
    """With five others before it the right key is still tried, with six it is not."""
    await connect(service, "alice", ALICES)
    others = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(count)]
    if count < TRIES:
        await connect(service, "alice", *others, ALICES)
        return
    with pytest.raises(asyncssh.DisconnectError, match="Too many authentication failures"):
        await connect(service, "alice", *others, ALICES)
    assert (await wait_ended(service))["tries"] == 1


async def test_tries_that_are_abandoned(service: Service) -> None:
    """Requests that do not wait for their answers are counted all the same."""
    keys = [asyncssh.generate_private_key("ssh-ed25519").public_data for _ in range(100)]
    await connect(service, "alice", ALICES)

    def talk() -> list[int | None]:
        client = RawClient(service.port)
        with contextlib.closing(client):
            for key in keys:
                client.send_query("alice", key)
            return list(iter(client.answer, None))

    assert len(await asyncio.to_thread(talk)) < TRIES
    assert (await wait_ended(service))["tries"] == 1


async def test_questions_about_a_good_key(service: Service) -> None:
    """They are no failures, and yet nobody may ask for ever."""
    await connect(service, "alice", ALICES)
    answers = await talk(service, *[hers] * (MAX_AUTH_REQUESTS + 1))
    assert answers == [KEY_IS_GOOD] * MAX_AUTH_REQUESTS + [None]
    assert (await wait_ended(service))["tries"] == 1


async def test_fault_of_ours(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends that connection with a trace in the log, and charges nobody."""

    def fail(_: Peer) -> NoReturn:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Peer, "session_requested", fail)
    connection = await connect(service, "alice", ALICES)
    with structlog.testing.capture_logs() as logs, pytest.raises(asyncssh.Error):
        await connection.run("whoami")
    assert await wait_ended(service) == {"failed": 1}
    [line] = [line for line in logs if line["event"] == "connection failed"]
    assert "a fault" in str(line["exc_info"])


async def test_accounts_that_do_not_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is not to blame, and may come back at once."""

    async def fail(*_: Any) -> NoReturn:  # noqa: ANN401
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(Logins, "welcome", fail)
    for _ in range(3):
        await refusal(service, "alice", ALICES)
    assert await wait_ended(service, 3) == {"unavailable": 3}
    assert not charged(service)


async def test_shutdown(tmp_path: Path) -> None:
    """Whoever is still there is told why."""
    async with serving(tmp_path / "data") as service:
        connection = await connect(service, "alice", ALICES)
    with pytest.raises(asyncssh.Error):
        await connection.run("whoami")
    assert await wait_ended(service) == {"shutdown": 1}


async def test_nothing_is_left_counted(service: Service) -> None:
    """When all are gone, so are the counts of users and addresses."""
    holders = (Holder(Scope.USER, "alice"), Holder(Scope.ADDRESS, HOST))
    connections = [await connect(service, "alice", ALICES) for _ in range(3)]
    processes = [await one.create_process("sub news") for one in connections]
    assert [service.quotas.held(Resource.CONNECTIONS, one) for one in holders] == [3, 3]
    await asyncio.gather(*(one.create_process("sub news") for one in connections))
    for holder in holders:
        async with asyncio.timeout(DEADLINE):
            while service.quotas.held(Resource.TOPICS, holder) != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert service.quotas.held(Resource.SESSIONS, holder) == 6
    processes[0].close()
    connections[1].abort()
    connections[2].close()
    connections[0].close()
    await wait_ended(service, 3)
    assert await refusal(service, "alice", OTHER)
    await wait_ended(service, 4)
    for resource in Resource:
        for holder in holders:
            assert service.quotas.held(resource, holder) == 0
    assert service.gate.waiting == 0
