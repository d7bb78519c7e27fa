"""Which connections stay where they are, and what is asked again where one arrives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pipe.errors import NotMoved
from pipe.ssh.handover import export, why_not
from tests.e2e.payloads import noise
from tests.e2e.server import Status
from tests.ssh.house import House, all_ended, ended, unused_input, with_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def held_reason(house: House, command: str, *options: str) -> str:
    """Hold a session of alice's, return why it cannot move, and hang up."""
    house.hold = True
    client = await house.ssh("alice", command, *options)
    await house.until_held()
    channel = house.held.pop()
    reason = why_not(channel)
    if reason:
        with pytest.raises(NotMoved, match=reason):
            export(house.services[0], channel)
    client.kill()
    await client.communicate()
    return reason


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("pub there", ""),
        ("sub there", ""),
        ("pipe there", ""),
        ("sub 'a*'", "its request is for a pattern"),
        ("pub", "its request names no topic"),
        ("ls", "its request is none for a topic"),
        ("", "its request is none for a topic"),
        ("sub --nonsense there", "its request is faulty"),
        ("pub no//name", "its request is faulty"),
    ],
)
async def test_requests(house: House, command: str, reason: str) -> None:
    """Only a request for one topic moves its connection."""
    assert await held_reason(house, command) == reason


@with_settings(lane="asyncssh")
async def test_other_lane(house: House) -> None:
    """Nothing on asyncssh's own data path moves."""
    assert await held_reason(house, "pub there") == "it is not on the fast lane"


async def test_other_cipher(house: House) -> None:
    """Nothing that is encrypted with another cipher moves."""
    chacha = "chacha20-poly1305@openssh.com"
    assert await held_reason(house, "pub there", "-c", chacha) == "its cipher is not AES-GCM"


async def test_terminal(house: House) -> None:
    """A client with a terminal stays."""
    assert await held_reason(house, "sub there", "-tt") == "its client has a terminal"


async def test_two_channels(house: House, tmp_path: Path) -> None:
    """A connection with two channels stays."""
    house.hold = True
    path = str(tmp_path / "control")
    first = await house.ssh("alice", "sub there", "-M", "-S", path)
    await house.until_held()
    second = await house.ssh("alice", "sub -k elsewhere", "-S", path)
    await house.until(lambda: house.services[0].sessions)
    assert why_not(house.held[0]) == "it has more than one channel"
    for client in (second, first):
        client.kill()
        await client.communicate()
    house.held.clear()


async def test_joined(house: House) -> None:
    """A session that has joined stays."""
    house.route = (0,)
    client = await house.ssh("alice", "sub there")
    await house.until(lambda: [one.member for one in house.services[0].sessions])
    [session] = house.services[0].sessions
    await house.until(lambda: session.member)
    channel: Any = session._front  # type: ignore[attr-defined]  # noqa: SLF001
    assert why_not(channel) == "it has joined already"
    client.kill()
    await client.communicate()


async def test_too_much_input(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more input than a state may carry it stays, and loses none of it."""
    reader = await house.ssh("alice", "sub there")
    await house.until_reading()
    house.hold = True
    writer = await house.ssh("alice", "pub there")
    await house.until_held()
    channel = house.held[0]
    data = noise(100_000)
    waits = asyncio.create_task(ended(writer, data))
    await house.until(lambda: unused_input(channel) == len(data))
    with monkeypatch.context() as patch:
        patch.setattr("pipe.ssh.handover.MAX_CARRIED_BYTES", len(data) - 1)
        with pytest.raises(NotMoved, match="too much of its input"):
            export(house.services[0], channel)
    await house.move(channel)
    wrote, read = await waits, await ended(reader)
    assert (wrote.status, read.status, read.stdout == data) == (0, 0, True)


async def test_no_descriptors(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no copy of the descriptor can be made it stays, and goes on."""
    house.hold = True
    reader = await house.ssh("alice", "sub there")
    await house.until_held()

    def fail(_: int) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("os.dup", fail)
        with pytest.raises(NotMoved, match="Too many open files"):
            export(house.services[0], house.held[0])
    await house.move(house.held[0])
    await house.until_reading()
    house.hold = False
    wrote, read = await all_ended(await house.ssh("alice", "pub there"), b"hello", reader)
    assert (wrote.status, read.status, read.stdout) == (0, 0, b"hello")


# -- what is asked again --------------------------------------------------------------------------


async def remove_user(house: House) -> None:
    """Remove her, as an operator's command in a third process would."""
    await house.services[0].store.remove_user("alice")


async def remove_and_add(house: House) -> None:
    """Remove her, and let somebody else have the name."""
    await house.services[0].store.remove_user("alice")
    await house.services[0].store.ensure_user("alice")


@pytest.mark.parametrize("change", [remove_user, remove_and_add])
@pytest.mark.parametrize("noticed", [False, True], ids=["unnoticed", "noticed"])
async def test_removed_in_between(
    house: House, change: Callable[[House], Any], noticed: bool
) -> None:
    """A user who is removed while the connection is on its way is told so: 77.

    It makes no difference whether the other process has noticed before the connection came.
    """
    house.hold = True
    client = await house.ssh("alice", "sub there")
    await house.until_held()
    parcel = house.take_out(house.held[0])
    await change(house)
    if noticed:
        await house.services[1].guard.catch_up()
    await house.servers[1].adopt(parcel.cargo.encode(), parcel.socket)
    found = await ended(client)
    assert found.status == Status.DENIED
    assert "was removed" in found.stderr


async def test_removed_before_it_came_back(house: House) -> None:
    """A removal before the login does not count, though the other process reads of it later."""
    first = await ended(await house.ssh("alice", "whoami"))
    assert first.status == 0
    await remove_user(house)
    await house.services[0].guard.catch_up()
    reader = await house.ssh("alice", "sub there")
    await house.until_reading()
    wrote, read = await all_ended(await house.ssh("alice", "pub there"), b"hello", reader)
    assert (wrote.status, read.status, read.stdout) == (0, 0, b"hello")
