"""Rights that come and go as fast as they can, while the stream runs: no byte to one without."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.payloads import MIB
from tests.e2e.server import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ciphers import Suite
    from .peer import Channel, Peer
    from .scene import Scene

pytestmark = [pytest.mark.hostile, pytest.mark.data_path]

ROUNDS: Final = 100

PATIENCE: Final = 0.01
"""Seconds to wait for a byte before more is published."""

MAYBE: Final = b"m" * 512
"""Sent while a right is being given or taken: bob may get it or not."""

ALLOWED: Final = b"a" * 512
"""Sent while he has the right."""

SECRET: Final = b"s" * 512
"""Sent while he has none."""


def start(peer: Peer, command: str) -> Channel:
    """Run a command whose bytes are kept."""
    channel = peer.run(command)
    channel.keep = True
    return channel


def grant_or_revoke(owner: Peer, writer: Channel, command: str, readers: Sequence[Peer]) -> bytes:
    """Run it, publishing all the time until it has been answered; what was published."""
    sent = b""
    channel = owner.run(command)
    while not owner.take():
        writer.send(MAYBE)
        sent += MAYBE
        for reader in readers:
            reader.take()
    assert channel.wait() == Status.OK
    return sent


def test_grants_that_come_and_go(scene: Scene, suite: Suite) -> None:
    """A hundred grants and revocations under a running stream, and somebody at the door always."""
    scene.server.introduce("bob")
    with scene.attack(growth=32 * MIB):
        owner, writing, reading = (scene.peer(suite=suite) for _ in range(3))
        bob = scene.peer("bob", suite=suite)
        witness = reading.run("sub -k feed")
        pattern = start(bob, "sub 'mallory/*'")
        writer = writing.run("pub -b=false -c feed")
        sent, entries, statuses = b"", [], []
        for _ in range(ROUNDS):
            heard = len(pattern.data)
            at_the_door = start(bob, "sub -k mallory/feed")
            sent += grant_or_revoke(owner, writer, "grant feed bob --read", (bob, reading))
            inside = start(bob, "sub -k mallory/feed")
            while ALLOWED not in inside.data or ALLOWED not in pattern.data[heard:]:
                writer.send(ALLOWED)
                sent += ALLOWED
                bob.take(PATIENCE)
                reading.take()
            sent += grant_or_revoke(owner, writer, "revoke feed bob", (bob, reading))
            writer.send(SECRET)
            sent += SECRET
            witness.read(len(sent))  # it was published while he had no right
            assert inside.wait() == Status.DENIED
            statuses.append(at_the_door.wait())
            entries += [at_the_door, inside]
        writer.end()
        writer.wait()
        witness.read(len(sent))
        pattern.close()
        pattern.wait()

    assert witness.sha256 == hashlib.sha256(sent).hexdigest()
    assert set(statuses) == {Status.DENIED}
    for channel in (pattern, *entries):
        assert SECRET[:1] not in channel.data
