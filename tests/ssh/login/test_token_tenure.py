"""Tokens that logins by files and certificates have made: they end with what stands behind them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipe.errors import AccessDenied, Outcome
from pipe.rights.access import REMOVED_TEXT
from pipe.rights.callers import FILED
from pipe.ssh.login import tenure
from pipe.ssh.login.logins import UNTRUSTED_TEXT
from pipe.stream.ports import Mode
from tests.e2e.processes import DEADLINE
from tests.sessions import Session
from tests.ssh.login.test_tenure import (
    CA,
    CA_LINE,
    KEYS,
    LINES,
    OTHER_CA,
    OTHER_CA_LINE,
    certificate,
    fill_in,
    make_folder,
    rewrite,
)
from tests.ssh.serving import connect, run, serving

if TYPE_CHECKING:
    from pathlib import Path

    import asyncssh

    from pipe.rights.callers import Caller
    from pipe.service import Service


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a look takes to come is not what these tests are about."""
    monkeypatch.setattr(tenure, "LOOK_SECONDS", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of key files: alice has both keys."""
    return make_folder(tmp_path / "keys", alice="".join(LINES))


def bear(service: Service, caller: Caller) -> Session:
    """A session of somebody who came with a token."""
    session = Session(service, caller)
    session.join(Mode.SUBSCRIBE, "own")
    return session


async def make_token(connection: asyncssh.SSHClientConnection, flags: str = "") -> str:
    """Make one over SSH."""
    return (await run(connection, f"tokens add --read '**' {flags}")).strip()


async def assert_ended(session: Session, text: str) -> None:
    """It ends with this line."""
    async with asyncio.timeout(DEADLINE):
        assert await session.wait_over() == (Outcome.DENIED, text)


@pytest.mark.parametrize(
    ("after", "text"),
    [
        ("SECOND", REMOVED_TEXT),
        (None, REMOVED_TEXT),
        ("restrict FIRST SECOND", tenure.CHANGED_TEXT),
        (
            'from="192.0.2.1" FIRST SECOND',
            "access denied: this key may not be used from 127.0.0.1",
        ),
        ('expiry-time="20200101" FIRST SECOND', tenure.KEY_EXPIRED_TEXT),
    ],
)
async def test_tokens_end_with_the_line(
    folder: Path, tmp_path: Path, after: str | None, text: str
) -> None:
    """When a line of a key file goes, so do the sessions of the tokens that it made."""
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        async with await connect(service, "alice", KEYS[0]) as first:
            token = await make_token(first)
        async with await connect(service, "alice", KEYS[1]) as second:
            other_token = await make_token(second)
        session = bear(service, await service.tokens.admit(token, "127.0.0.1"))
        rewrite(folder / "alice", after and fill_in(after))
        await assert_ended(session, text)
        if text != tenure.CHANGED_TEXT:
            with pytest.raises(AccessDenied):
                await service.tokens.admit(token, "127.0.0.1")
        if after:
            service.tokens.leave(await service.tokens.admit(other_token, "127.0.0.1"))


async def test_line_holds_its_tokens_to_its_terms(folder: Path, tmp_path: Path) -> None:
    """A token is good from where its key is, until its line expires, and never for one command."""
    (folder / "alice").write_text(f'from="127.0.0.1",expiry-time="20990101" {LINES[0]}')
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        async with await connect(service, "alice", KEYS[0]) as connection:
            token = await make_token(connection, "--for 365d")
        caller = await service.tokens.admit(token, "127.0.0.1")
        assert caller.backing == FILED
        service.tokens.leave(caller)
        with pytest.raises(AccessDenied, match=r"may not be used from 192\.0\.2\.1"):
            await service.tokens.admit(token, "192.0.2.1")
        (folder / "alice").write_text(f'command="sub own" {LINES[0]}')
        with pytest.raises(AccessDenied, match="held to one command"):
            await service.tokens.admit(token, "127.0.0.1")


async def test_tokens_end_with_the_ca(tmp_path: Path) -> None:
    """When a CA is not trusted any more, neither are the tokens of those for whom it vouched."""
    ca_file = tmp_path / "ca.pub"
    ca_file.write_text(CA_LINE + OTHER_CA_LINE)
    async with serving(tmp_path / "data", trusted_ca=ca_file) as service:
        tokens = []
        for ca in (CA, OTHER_CA):
            async with await connect(service, "alice", certificate(ca)) as connection:
                tokens.append(await make_token(connection))
        sessions = [
            bear(service, await service.tokens.admit(token, "127.0.0.1")) for token in tokens
        ]
        ca_file.write_text(OTHER_CA_LINE)
        await assert_ended(sessions[0], UNTRUSTED_TEXT)
        assert sessions[1].ended is None
        with pytest.raises(AccessDenied, match="is not trusted"):
            await service.tokens.admit(tokens[0], "127.0.0.1")
        service.tokens.leave(await service.tokens.admit(tokens[1], "127.0.0.1"))


async def test_token_ends_with_the_certificate(tmp_path: Path) -> None:
    """A token, a link and a browser's login last no longer than the certificate of their maker."""
    ca_file = tmp_path / "ca.pub"
    ca_file.write_text(CA_LINE)
    valid_before = int(time.time()) + 3000
    shown = certificate(valid_before=valid_before)
    async with serving(tmp_path / "data", trusted_ca=ca_file) as service:
        async with await connect(service, "alice", shown) as connection:
            await make_token(connection, "--for 365d")
            await run(connection, "link own --for 365d")
            code = (await run(connection, "login --for 30d")).strip().rpartition("/")[2]
        await service.tokens.redeem(code, "127.0.0.1")
        tokens = await service.store.tokens.list_tokens("alice")
        assert [one.until for one in tokens] == [float(valid_before)] * 3


@pytest.mark.parametrize(
    "options",
    [{"source_address": ["127.0.0.0/8"]}, {"force_command": "tokens add --read own"}],
)
async def test_certificate_that_holds_to_something_makes_no_token(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Nothing would hold the token to the address or command, so there is none."""
    ca_file = tmp_path / "ca.pub"
    ca_file.write_text(CA_LINE)
    async with serving(tmp_path / "data", trusted_ca=ca_file) as service:
        async with await connect(service, "alice", certificate(**options)) as connection:
            made = await connection.run("tokens add --read own", check=False)
            assert made.exit_status == Outcome.DENIED.status
            assert "holds you to an address or a command" in str(made.stderr)
        assert await service.store.tokens.list_tokens() == ()
