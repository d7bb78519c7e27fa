"""What every soak stands on: keys, numbers, counts, and scenes that begin one after the other.

The rule that it keeps: scenes start only while the whole of it (server and clients) has used less
than its share of a processor, so that other work on the machine goes on.
"""

from __future__ import annotations

import abc
import asyncio
import itertools
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Final

import asyncssh

from loadtest import procfs
from loadtest.workspace import ROOT, make_key
from tests.e2e.clients import bare_environment

from .clients import CLOSED, GoneError, Library, Wish
from .scene import ExcusedError
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from .scene import Scene

ADMIT_SECONDS: Final = 0.2
USERS: Final = ("alice", "bob", "mallory")


class Stage(abc.ABC):
    """Where scenes are played.

    Args:
        directory: where it may write.
        seed: of all random numbers.
        share: of a processor, for all of it.
        longest: seconds; a scene that takes longer hangs.

    Attributes:
        has_faults: whether anything is done to the service.
    """

    has_faults = False

    def __init__(self, directory: Path, seed: int, share: float, longest: float) -> None:
        self.tally = Tally()
        self.seed = seed
        self._directory = directory
        self._share = share
        self._longest = longest
        self._numbers = itertools.count()
        self._scene_numbers = itertools.count()
        self.keys = {user: directory / user for user in USERS}
        for path in self.keys.values():
            make_key(path)
        self._start = time.monotonic()
        self._cpu = procfs.tree_cpu_seconds(os.getpid())
        self._used = 0.0

    @abc.abstractmethod
    def port(self, draw: random.Random) -> int:
        """Where a client connects."""

    @property
    @abc.abstractmethod
    def accounts(self) -> list[str]:
        """The flags by which commands find the accounts."""

    def was_hit(self, since: float) -> bool:
        """Whether anything was done to the service since then."""
        del since
        return False

    @abc.abstractmethod
    def _next(self, number: int) -> tuple[Scene, str, Callable[[], Awaitable[None]]]:
        """The scene of this number, what is played in it, and the play."""

    def new_path(self, stem: str) -> Path:
        """A file that is not there yet."""
        return self._directory / f"{stem}-{next(self._numbers)}"

    def new_log(self) -> Path:
        """The same, for a client's log."""
        path = self.new_path("log")
        path.touch()
        return path

    def new_key(self) -> Path:
        """A private key that nobody has used."""
        path = self.new_path("key")
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
        path.chmod(0o600)  # or ssh will not use it
        return path

    async def manage(self, *words: str) -> None:
        """Run one of the commands that manage accounts."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pipe", *words, *self.accounts),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=bare_environment(),
        )
        _, said = await process.communicate()
        if process.returncode:
            self.tally.fail("wrong statuses", f"pipe {' '.join(words)}: {said.decode()}")

    async def ask(self, user: str, command: str) -> tuple[int, str]:
        """Run a command at the service, and return its status and what it wrote.

        Raises:
            asyncssh.Error, OSError: the user is not let in.
        """
        port = self.port(random.Random(next(self._numbers)))
        client = await Library.start(Wish(user, self.keys[user], port), command)
        try:
            return await client.wait(), client.received.decode()
        finally:
            await client.close()

    # -- scenes -----------------------------------------------------------------------------------

    async def _work(self, deadline: float) -> None:
        """Play one scene after the other until then."""
        while await self._admit(deadline):
            scene, name, play = self._next(next(self._scene_numbers))
            try:
                await self._play(scene, name, play)
            finally:
                await scene.close()
            self.tally.scenes[name] += 1

    async def _play(self, scene: Scene, name: str, play: Callable[[], Awaitable[None]]) -> None:
        playing = asyncio.ensure_future(play())
        lame = asyncio.create_task(scene.wait_lame())
        try:
            done, _ = await asyncio.wait(
                {playing, lame}, timeout=self._longest, return_when=asyncio.FIRST_COMPLETED
            )
            if playing in done:
                playing.result()
            elif lame in done or (scene.touched and scene.holds):
                raise ExcusedError  # who reads nothing does not hear that it was cut off
            else:
                scene.fail("scenes that hang", name)
        except ExcusedError:
            self.tally.count("scenes that a fault ended")
        except Exception as error:  # noqa: BLE001 - whatever it is, it breaks a promise
            if scene.touched and isinstance(error, (GoneError, *CLOSED)):
                self.tally.count("scenes that a fault ended")
            else:
                scene.fail("scenes that failed", f"{name}: {error!r}")
        finally:
            for task in (playing, lame):
                task.cancel()
            await asyncio.gather(playing, lame, return_exceptions=True)

    async def _admit(self, deadline: float) -> bool:
        """Wait until one more scene may begin; whether there is still time for it."""
        while time.monotonic() < deadline:
            if self.count_cpu() < self._share * (time.monotonic() - self._start):
                return True
            await asyncio.sleep(ADMIT_SECONDS)
        return False

    def count_cpu(self) -> float:
        """Seconds of processor time that all have used, but for the last of those that were killed.

        A child whose parent is killed takes its time along.
        """
        now = procfs.tree_cpu_seconds(os.getpid())
        self._used += max(0.0, now - self._cpu)
        self._cpu = now
        return self._used
