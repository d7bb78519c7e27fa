"""``whoami``, ``version`` and ``help``: what they need no topic for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pipe import __version__
from pipe.commands import Asker, answer
from pipe.commands.layout import WIDTH
from pipe.language.quantities import MIB
from pipe.language.requests import WhoAmI, parse
from pipe.limits.quotas import Holder, Resource, Scope
from pipe.rights.callers import Caller
from pipe.service import Service
from pipe.settings import Settings
from pipe.store import Store
from tests.sessions import Session, fingerprint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.sessions import People

ALICE = Holder(Scope.USER, "alice")
ADDRESS = Holder(Scope.ADDRESS, "192.0.2.1")


async def test_whoami(people: People) -> None:
    """The user, the key and the address are there, for people and for programs."""
    text = await people.run("alice", "whoami")
    facts = json.loads(await people.run("alice", "whoami --json"))

    for fact in ("alice", fingerprint("alice"), "alice.example:40000"):
        assert fact in text
        assert fact in facts.values()
    assert max(map(len, text.splitlines())) <= WIDTH


async def ask(service: Service, *holders: Holder, command: str = "whoami") -> str:
    """Let alice ask, from where her sessions are counted for these."""
    caller = Caller("alice", fingerprint("alice"))
    session = Session(service, caller)
    asker = Asker(caller, session.address, session, holders=(ALICE, *holders))
    request = parse(command)
    assert isinstance(request, WhoAmI)
    return await answer(request, service, asker)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """One where every limit is set, each to another figure."""
    settings = Settings(
        data_dir=tmp_path,
        max_connections_per_user=31,
        max_connections_per_address=32,
        max_sessions_per_user=33,
        max_sessions_per_address=34,
        max_sessions_per_connection=35,
        max_topics_per_user=36,
        max_topics_per_address=0,
        max_patterns_per_user=43,
        max_rate_per_user=37 * MIB,
        window=38 * MIB,
        buffer=39 * MIB,
        stall_timeout=41.0,
        idle_timeout=42.0,
    )
    async with await Store.open("sqlite://") as store:
        service = Service(settings, store)
        service.quotas.take(Resource.CONNECTIONS, ALICE)
        service.quotas.take(Resource.SESSIONS, ALICE)
        service.quotas.take(Resource.SESSIONS, ALICE)
        yield service


async def test_limits_for_people(service: Service) -> None:
    """Each limit that applies is there, and how much of it is used."""
    text = await ask(service, ADDRESS)
    assert [line[9:] for line in text.splitlines()[3:]] == [
        "1 of 31 connections, 32 from your address",
        "2 of 33 sessions, 34 from your address, 35 on one connection",
        "0 of 36 topics",
        "0 of 43 patterns",
        "37MiB published per second, by all your sessions together",
        "38MiB sent ahead by a writer that is held up",
        "39MiB buffered for a reader that falls behind, which is cut off if it",
        "  takes nothing for 41s while others wait",
        "42s for a connection without a session",
    ]


async def test_limits_for_programs(service: Service) -> None:
    """The same, by name; null is no limit."""
    facts = json.loads(await ask(service, ADDRESS, command="whoami --json"))
    assert facts["limits"] == {
        "connections_per_user": 31,
        "connections_per_address": 32,
        "sessions_per_user": 33,
        "sessions_per_address": 34,
        "topics_per_user": 36,
        "topics_per_address": None,
        "patterns_per_user": 43,
        "patterns_per_address": None,
        "sessions_per_connection": 35,
        "bytes_per_second": 37 * MIB,
        "buffer_bytes": 39 * MIB,
        "window_bytes": 38 * MIB,
        "stall_seconds": 41,
        "idle_seconds": 42,
    }
    assert facts["used"] == {"connections": 1, "sessions": 2, "topics": 0, "patterns": 0}


async def test_trusted_address_has_no_limits(service: Service) -> None:
    """From there, what counts per address does not apply, and is not shown."""
    assert "address," not in await ask(service)
    limits = json.loads(await ask(service, command="whoami --json"))["limits"]
    assert {limits[name] for name in limits if name.endswith("_per_address")} == {None}


async def test_no_limits(tmp_path: Path) -> None:
    """What is unlimited is said to be so."""
    settings = Settings(data_dir=tmp_path, max_connections_per_user=0)
    async with await Store.open("sqlite://") as store:
        text = await ask(Service(settings, store))
    assert "0 of any number of connections\n" in text
    assert "any number of bytes per second\n" in text


async def test_version(people: People) -> None:
    """It is the one that is installed."""
    assert await people.run("alice", "version") == f"pipe {__version__}\n"


async def test_help_names_this_server(people: People) -> None:
    """Help says how to reach this very server, and the parts of a command are found from it."""
    text = await people.run("alice", "help keys")

    assert text.startswith("usage: ssh -p 2222 alice@example.org keys [FLAGS]\n")
    assert "\nsee also, each with -h:\n  keys add" in text
