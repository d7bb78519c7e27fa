"""One scene of a soak: its clients, what they are expected to end with, and what a fault excuses.

A scene draws everything from its own random numbers, which come from the soak's seed and the
scene's number.  All its clients have ended when it has.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from loadtest.workspace import MIB
from tests.e2e.server import Status

from .checks import BLOCK, MismatchError
from .clients import Client, GoneError, Library, OpenSSH, Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stage import Stage

CIPHERS: Final = (
    "",  # what the client likes best
    "",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
)
OPENSSH_SHARE: Final = 0.35
REKEY_SHARE: Final = 0.25

KIB: Final = 1 << 10
MOST_PIECES: Final = 500
"""Into which a publisher cuts what it sends, so that a scene does not take minutes."""

FATES: Final = frozenset({Status.SHUTDOWN, Status.BROKEN, Status.TIMEOUT, Status.NO_CONNECTION})
"""What a client may end with if something has happened to the service meanwhile."""

LOOK_SECONDS: Final = 1.0
LAME_SECONDS: Final = 10.0
"""How long a scene of which a fault has ended a client may go on: others may wait for that one."""


class ExcusedError(Exception):
    """A fault explains how a client has ended; there is nothing more to see in its scene."""


class Scene:
    """One scene and its clients."""

    def __init__(self, soak: Stage, number: int) -> None:
        self.soak = soak
        self.tally = soak.tally
        self.topic = f"scene-{number}"
        self.draw = random.Random(f"{soak.seed} {number}")
        self._began = time.monotonic()
        self._clients: list[Client] = []
        self._over = False

    def wish(self, user: str = "alice", *, window: int = 0) -> Wish:
        """Some way to connect."""
        return Wish(
            user,
            self.soak.keys[user],
            self.soak.port(self.draw),
            self.draw.choice(CIPHERS),
            self.draw.random() < REKEY_SHARE,
            window,
        )

    async def client(
        self, command: str, wish: Wish | None = None, *, library: bool | None = None
    ) -> Client:
        """Start a client of either kind."""
        wish = wish or self.wish()
        if library is None:
            library = self.draw.random() > OPENSSH_SHARE
        self.tally.count("joins")
        if library:
            self.tally.count("asyncssh clients")
            return self.keep(await Library.start(wish, command))
        self.tally.count("ssh clients")
        log = self.soak.new_log() if wish.rekey or self.soak.has_faults else None
        return self.keep(await OpenSSH.start(wish, command, log))

    def keep(self, client: Client) -> Client:
        """Let it end with the scene.

        Raises:
            ExcusedError: that is over, and it has come too late.
        """
        self._clients.append(client)
        if self._over:
            client.kill()
            raise ExcusedError
        return client

    async def close(self) -> None:
        """End all clients."""
        self._over = True
        await asyncio.gather(*(client.close() for client in self._clients))
        for client in self._clients:
            if isinstance(client, OpenSSH):
                self.tally.count("rekeys seen by ssh", client.rekeys())
                client.drop_log()

    # -- faults -----------------------------------------------------------------------------------

    @property
    def touched(self) -> bool:
        """Whether something has happened to the service since it began."""
        return self.soak.was_hit(self._began)

    @property
    def holds(self) -> bool:
        """Whether a client of it reads nothing."""
        return any(client.holds for client in self._clients)

    async def wait_lame(self) -> None:
        """Return once a fault has ended a client, and the others had time to learn of it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.touched and any(client.ended for client in self._clients):
                break
        await asyncio.sleep(LAME_SECONDS)

    # -- what is expected -------------------------------------------------------------------------

    async def expect(self, client: Client, *wanted: int) -> int:
        """Wait for the end of a client, and note a status that is none of those wanted.

        Raises:
            ExcusedError: it is one that a fault explains.
        """
        status = await client.wait()
        if status not in wanted and status in FATES and self.touched:
            raise ExcusedError
        if status not in wanted:
            listed = " or ".join(map(str, map(int, wanted)))
            self.fail("wrong statuses", f"{status} instead of {listed}: {client.words}")
        return status

    def check(
        self,
        compare: Callable[[bytes | bytearray, bytes | bytearray], None],
        sent: bytes | bytearray,
        received: bytes | bytearray,
    ) -> None:
        """Compare what a reader received, and note a mismatch.

        Raises:
            ExcusedError: `ssh` had lost its connection, and has dropped what it had not written.
        """
        self.tally.count("streams checked")
        self.tally.count("bytes checked", len(received))
        try:
            compare(sent, received)
        except MismatchError as error:
            cut = any(client.was_cut for client in self._clients)
            if cut and self.touched and sent.startswith(received):
                raise ExcusedError from error
            self.fail("mismatches", f"{compare.__name__}: {error}")

    def fail(self, kind: str, what: str) -> None:
        """Note a broken promise of this scene."""
        self.tally.fail(kind, f"{self.topic}: {what}")

    def size(self, most: int = 4 * MIB) -> int:
        """A random size: as often from 1 to 1 KiB as from 1 to 4 MiB."""
        return int(2 ** self.draw.uniform(0, most.bit_length() - 1))

    def depart(self, client: Client) -> None:
        """Go in mid-stream, in one way or another."""
        if self.draw.random() < 0.5:
            client.leave()
            self.tally.count("leaves in mid-stream")
        else:
            client.kill()
            self.tally.count("kills" if isinstance(client, OpenSSH) else "TCP resets")


class Writer:
    """A publisher's end of a stream: sends noise in pieces, and knows what it has sent."""

    def __init__(self, scene: Scene, client: Client, piece: int = 0) -> None:
        self.client = client
        self.sent = bytearray()
        self._scene = scene
        self._piece = piece or min(max(1, scene.size(128 * KIB)), 100_000)

    async def send(self, size: int) -> None:
        """Send so many bytes more."""
        noise = self._scene.draw.randbytes(size)
        piece = self._piece
        if size > piece * MOST_PIECES:
            piece = -(-size // MOST_PIECES // BLOCK) * BLOCK
        self.sent += noise
        try:
            for start in range(0, size, piece):
                await self.client.send(noise[start : start + piece])
        except OSError as error:
            raise GoneError(f"publisher: {error}: {self.client.words}") from error
        self._scene.tally.count("bytes published", size)

    async def drip(self, until: Callable[[], bool], size: int = 100) -> None:
        """Send a little now and then until something has come about."""
        while not until():
            await self.send(size)
            await asyncio.sleep(0.02)

    async def finish(self) -> None:
        """End the stream in good order, and check the receipt."""
        self.client.end_input()
        await self._scene.expect(self.client, Status.OK)
        if f"sent {len(self.sent)} byte" not in self.client.words:
            self._scene.fail("wrong receipts", f"{len(self.sent)} sent; {self.client.words}")
