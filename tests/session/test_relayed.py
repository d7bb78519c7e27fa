"""A client here whose session runs in another worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from pipe.errors import Outcome, UsageError
from pipe.session import session
from tests.ssh.serving import connect, serving

if TYPE_CHECKING:
    from pathlib import Path

    from pipe.elsewhere import Client, Errand, Gone
    from pipe.service import Service


class Elsewhere:
    """Another worker, which runs everything: an `Elsewhere`, a `Visit` and a `Way` in one."""

    far = True

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.client: Client
        self.gone: Gone | None = None
        self.settled = 0

    def concerns(self, request: object) -> bool:  # noqa: ARG002
        """It takes everything."""
        return True

    async def find(self, request: object, topic: object) -> Elsewhere:  # noqa: ARG002
        """It is the one."""
        return self

    def carry(self, front: object) -> bool:  # noqa: ARG002
        """Nobody moves."""
        return False

    def open(self, errand: Errand, client: Client) -> Elsewhere:  # noqa: ARG002
        """Run a session, which reads nothing."""
        if self._error:
            raise self._error
        self.client = client
        return self

    def settle(self) -> None:
        """It is no longer visited."""
        self.settled += 1

    def cut(self, outcome: Outcome, text: str) -> None:
        """The session was ended here."""

    def leave(self, gone: Gone) -> None:
        """The client is gone."""
        self.gone = gone


async def until_empty(service: Service) -> None:
    """Wait until no session is left."""
    while service.sessions:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_request_that_cannot_be_sent(tmp_path: Path) -> None:
    """Who asks for what cannot be told to the other worker is told so, and leaves nothing."""
    elsewhere: Any = Elsewhere(UsageError("the command has text that is not UTF-8"))
    async with serving(tmp_path) as service:
        service.elsewhere = elsewhere
        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        done = await alice.run("sub build")
        assert (done.exit_status, elsewhere.settled) == (64, 1)
        assert "not UTF-8" in str(done.stderr)
        await until_empty(service)
        alice.close()


@pytest.mark.parametrize("most", [0, 1])
async def test_whole_stream_that_nobody_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """The other worker waits for the rest of a stream only if it is kept here after its client."""
    monkeypatch.setattr(session, "MAX_ORPHANS", most)
    elsewhere: Any = Elsewhere()
    async with serving(tmp_path) as service:
        service.elsewhere = elsewhere
        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        pub = await alice.create_process("pub build")
        pub.stdin.write("all")
        pub.stdin.write_eof()
        (one,) = service.sessions
        live: Any = one
        while not live._intake.complete_but_waiting:  # noqa: ASYNC110, SLF001
            await asyncio.sleep(0)
        alice.abort()
        while elsewhere.gone is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert elsewhere.gone.complete is bool(service.sessions) is bool(most)
        if most:
            elsewhere.client.cut(Outcome.LEFT, "")
        await until_empty(service)
        assert not service.orphans
