"""Rights in a race: many sessions at one moment, on connections of one process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from pipe.rights.access import SPARED_BARS
from pipe.ssh.login.logins import Logins
from pipe.store import read_public_key

from .serving import connect, run, serving

if TYPE_CHECKING:
    from pathlib import Path

    from pipe.ssh.login.logins import Identity

USERS = 10
CHANNELS = 10
"""As many as one connection may have."""

DENIED = 77


async def test_one_creator_of_a_hundred_wins(tmp_path: Path) -> None:
    """Of a hundred who create one public topic, each with a list of its own, exactly one gets in.

    And the list that counts is the winner's.
    """
    async with serving(tmp_path) as service:
        keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(USERS)]
        connections = await asyncio.gather(
            *(connect(service, f"user{number}", key) for number, key in enumerate(keys))
        )
        for attempt in range(3):
            topic = f"public/club{attempt}"
            sessions = await asyncio.gather(
                *(
                    connection.create_process(
                        f"pub -b=false -a friend{attempt}-{user}-{channel} {topic}"
                    )
                    for channel in range(CHANNELS)
                    for user, connection in enumerate(connections)
                )
            )
            ends = {asyncio.ensure_future(session.wait_closed()): session for session in sessions}
            while len(ends) > 1:
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in done:
                    assert ends.pop(end).exit_status == DENIED
            [(end, winner)] = ends.items()
            assert not end.done()

            command = str(winner.command)
            friend = command.split("-a ")[1].split()[0]
            friends = await connect(service, friend, asyncssh.generate_private_key("ssh-ed25519"))
            assert "yes: you are on the list" in await run(friends, f"explain {topic}")
            stranger = next(
                connection
                for user, connection in enumerate(connections)
                if not friend.startswith(f"friend{attempt}-{user}-")
            )
            assert "no: the member that created it" in await run(stranger, f"explain {topic}")
            winner.stdin.write_eof()
            await end
            assert winner.exit_status == 0
            friends.close()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("gone", ["user", "key", "other"])
async def test_removed_in_the_middle_of_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Whoever is removed between being let in and being in is out, and nobody else is."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    stored = read_public_key(key.export_public_key().decode())
    async with serving(tmp_path, signup="closed") as service:
        await service.store.add_user("alice", keys=[stored])
        await service.store.add_user("bob")
        await service.store.add_key("bob", stored, shared=True)
        admit = Logins.admit

        async def admit_and_remove(logins: Logins, *arguments: Any) -> Identity:  # noqa: ANN401
            identity = await admit(logins, *arguments)
            monkeypatch.undo()
            if gone == "key":
                await service.store.remove_key("alice", stored.fingerprint)
            else:
                await service.store.remove_user("alice" if gone == "user" else "bob")
            await service.guard.catch_up()
            for number in range(4 * SPARED_BARS):  # what concerns nobody is forgotten then
                service.access.bar("alice", f"SHA256:{number}")
            return identity

        monkeypatch.setattr(Logins, "admit", admit_and_remove)
        if gone == "other":
            async with await connect(service, "alice", key) as connection:
                assert "alice" in await run(connection, "whoami")
        else:
            with pytest.raises(asyncssh.Error):
                await connect(service, "alice", key)


async def test_grant_and_revoke_in_turn(tmp_path: Path) -> None:
    """However fast grants come and go, who is in at the end is who the last one lets in."""
    async with serving(tmp_path) as service:
        alice = await connect(service, "alice", asyncssh.generate_private_key("ssh-ed25519"))
        bob = await connect(service, "bob", asyncssh.generate_private_key("ssh-ed25519"))
        for last in ("revoke", "grant"):
            commands = ["grant x bob", "revoke x bob"] * 4
            await asyncio.gather(*(alice.run(command) for command in commands))
            await alice.run("grant x bob")
            reader = await bob.create_process("sub -k alice/x")
            await asyncio.gather(*(alice.run(command) for command in commands[:4]))
            await alice.run(f"{last} x bob")
            explained = await run(bob, "explain alice/x")
            assert explained.count("yes: ") == (2 if last == "grant" else 0)
            if last == "revoke":
                await reader.wait_closed()
                assert reader.exit_status == DENIED
            reader.close()
        alice.close()
        bob.close()
