"""Why connections end: one reason each, in the metric, the log line and for their sessions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

import asyncssh
import pytest
import pytest_asyncio
import structlog

from pipe.errors import Ending, StoreUnavailable
from pipe.quotas import Holder, Resource, Scope
from pipe.ssh.auth import Peer
from pipe.ssh.logins import Logins

from .serving import HOST, RawClient, connect, refusal, run, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipe.service import Service

ALICES = asyncssh.generate_private_key("ssh-ed25519")
OTHER = asyncssh.generate_private_key("ssh-ed25519")


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A server that trusts no address."""
    settings = {"trusted_sources": "none", "idle_timeout": 0.2, "penalty_min": 0.5}
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
    while sum(ended(service).values()) < count:  # noqa: ASYNC110 - asyncssh tells nobody
        await asyncio.sleep(0.005)
    return ended(service)


async def send(service: Service, *data: bytes) -> None:
    """Connect, send, and wait until the server hangs up."""
    reader, writer = await asyncio.open_connection(HOST, service.port)
    for piece in data:
        writer.write(piece)
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


async def test_client_goes(service: Service) -> None:
    """With a goodbye, or without one."""
    connection = await connect(service, "alice", ALICES)
    connection.close()
    await connection.wait_closed()
    assert await wait_ended(service) == {"client": 1}
    connection = await connect(service, "alice", ALICES)
    connection.abort()
    assert await wait_ended(service, 2) == {"client": 1, "lost": 1}


async def test_idle(service: Service) -> None:
    """A connection without a channel, also when it had one."""
    connection = await connect(service, "alice", ALICES)
    await run(connection, "whoami")
    await connection.wait_closed()
    assert await wait_ended(service) == {"idle": 1}


async def test_tries(service: Service) -> None:
    """A client has six, beside the question that most begin with."""
    keys = [asyncssh.generate_private_key("ssh-ed25519").public_data for _ in range(8)]
    await connect(service, "alice", ALICES)

    def talk() -> list[int | None]:
        client = RawClient(service.port)
        try:
            return [client.query("alice", key) for key in keys]
        finally:
            client.close()

    answers = await asyncio.to_thread(talk)
    assert answers.count(None) == 1
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
    assert service.unauthenticated() == 0
