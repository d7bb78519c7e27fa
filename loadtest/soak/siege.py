"""The soak of several processes: a fault in each round of load, and a quiet point after it.

The rule that it keeps: at a quiet point no client is there, so everything that is counted must be 0
and every process must hold what it held when it was last looked at.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp
import asyncssh

from loadtest.workspace import HOST, MIB
from tests.e2e.server import Status

from .clients import CLOSED, Library, Wish
from .faults import Wrecker
from .scene import Scene
from .scenes import PLAYS
from .several import LOG_DRAIN, MOST_PATTERNS, MOST_SESSIONS, Holding, Service
from .stage import USERS, Stage
from .tally import table
from .trials import TRIALS, Trial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SHARE: Final = 0.4
WORKERS: Final = 6
"""Scenes at once."""

TRIED_SHARE: Final = 0.6
"""Of scenes: those that are checked to the end whatever happens beside them."""

ROUND_SECONDS: Final = 60.0
FAULT_SECONDS: Final = (5.0, 20.0)
"""When in a round the fault is made; what it ends, and who learns of it late, is in that round."""

LOAD_SECONDS: Final = 45.0
LONGEST_SECONDS: Final = 120.0
"""A scene that takes longer hangs: it may wait for a machine that is away, and for `--hold`."""

SETTLE_SECONDS: Final = 45.0
"""Until nothing is left of a round: names of a lost machine are free after 15 s, and a place that
`--hold` has kept after 30 s."""

KEPT_BYTES: Final = 24 * MIB
KEPT_DESCRIPTORS: Final = 16
KEPT_THREADS: Final = 8
"""What a process may hold more than at its first quiet point: links to workers that have come
since, pools, and what the allocator keeps."""


@dataclass
class Traced:
    """What a process held at the first quiet point that it saw, and at the last."""

    first: Holding
    last: Holding
    times: int = 1

    def grown(self) -> list[str]:
        """What it holds too much of."""
        bounds = {"memory": KEPT_BYTES, "descriptors": KEPT_DESCRIPTORS, "threads": KEPT_THREADS}
        lines = []
        for name, bound in bounds.items():
            old, new = getattr(self.first, name), getattr(self.last, name)
            if new > old + bound:
                lines.append(f"{name} of {self.last.role}: {old} before, {new} after")
        return lines


class Siege(Stage):
    """One run.

    Args:
        directory: where it may write.
        seconds: how long the load goes on.
        seed: of all random numbers.
        nodes: how many machines.
        workers: how many of each.

    Attributes:
        web: for requests by HTTP.
        shipping: a token by which log lines are shipped.
    """

    has_faults = True

    def __init__(
        self, directory: Path, seconds: float, seed: int, *, nodes: int, workers: int
    ) -> None:
        super().__init__(directory, seed, SHARE, LONGEST_SECONDS)
        self._seconds = seconds
        self.service = Service(directory, nodes, workers)
        wish = Wish("alice", self.keys["alice"], 0)
        self._wrecker = Wrecker(self.service, random.Random(f"{seed} faults"), wish)
        self._traced: dict[int, Traced] = {}
        self._levels: defaultdict[str, list[Holding]] = defaultdict(list)
        self._made: Counter[str] = Counter()
        self.web: aiohttp.ClientSession
        self.shipping = ""

    def port(self, draw: random.Random) -> int:
        """A machine that runs."""
        return self.service.choose(draw).port

    def url(self, draw: random.Random, path: str) -> str:
        """An address at one."""
        return f"http://{HOST}:{self.service.choose(draw).web_port}/{path}"

    @property
    def accounts(self) -> list[str]:
        """Where the service has them."""
        return self.service.accounts

    def was_hit(self, since: float) -> bool:
        """Whether there was a fault that may end streams."""
        return self._wrecker.was_hit(since)

    def _next(self, number: int) -> tuple[Scene, str, Callable[[], Awaitable[None]]]:
        draw = random.Random(f"{self.seed} play {number}")
        if draw.random() < TRIED_SHARE:
            tries, weights = zip(*TRIALS, strict=True)
            attempt = draw.choices(tries, weights)[0]
            trial = Trial(self, number)
            return trial, attempt.__name__, partial(attempt, trial)
        plays, weights = zip(*PLAYS, strict=True)
        play = draw.choices(plays, weights)[0]
        scene = Scene(self, number)
        return scene, play.__name__, partial(play, scene)

    # -- the run ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go through all rounds.  Cancelled, it ends what it has begun."""
        try:
            await self.service.start()
            token = await self._introduce()
            timeout = aiohttp.ClientTimeout(total=None)
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            headers = {"Authorization": f"Bearer {token}"}
            async with aiohttp.ClientSession(
                timeout=timeout, connector=connector, headers=headers
            ) as self.web:
                self._start = begin = time.monotonic()
                self.count_cpu()
                self._used = 0.0
                while time.monotonic() < begin + self._seconds:
                    await self._round()
            await self._try_quotas()
            await self._settle()
        except Exception as error:  # noqa: BLE001 - a report is due all the same
            self.tally.fail("the soak itself", f"{error!r}")

    async def _introduce(self) -> str:
        """Let users claim their names, and make tokens; that of alice is returned."""
        for user in USERS:
            await self.ask(user, "whoami")
        _, shipping = await self.ask("bob", f"tokens add --logs --write {LOG_DRAIN}")
        self.shipping = shipping.strip()
        every = "'**,public/**'"
        _, token = await self.ask("alice", f"tokens add --read {every} --write {every}")
        return token.strip()

    async def _round(self) -> None:
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._harm())
            for _ in range(WORKERS):
                group.create_task(self._work(begin + LOAD_SECONDS))
        await self._settle()
        rest = begin + ROUND_SECONDS - time.monotonic()
        await asyncio.sleep(max(0.0, min(rest, self._start + self._seconds - time.monotonic())))

    async def _harm(self) -> None:
        draw = random.Random(f"{self.seed} {self._made.total()} moment")
        await asyncio.sleep(draw.uniform(*FAULT_SECONDS))
        said = await self._wrecker.make()
        self._made[said.partition(" (")[0]] += 1
        print(f"{(time.monotonic() - self._start) / 60:5.1f} min: {said}", flush=True)
        while self._wrecker.faults:
            self.tally.fail("not served again", self._wrecker.faults.pop())

    async def _settle(self) -> None:
        """Wait until nobody is there, and look at what each process holds."""
        if not await self.service.wait_quiet(SETTLE_SECONDS):
            self.tally.fail("left behind", self.service.left())
        for machine in self.service.machines:
            for pid, holding in machine.holdings().items():
                if known := self._traced.get(pid):
                    known.last = holding
                    known.times += 1
                else:
                    self._traced[pid] = Traced(holding, holding)
                self._levels[holding.role].append(holding)
        print(
            f"{(time.monotonic() - self._start) / 60:5.1f} min: "
            f"{sum(self.tally.scenes.values())} scenes, "
            f"{self.tally.counts['scenes that a fault ended']} ended by faults, "
            f"{len(self.tally.broken)} broken promises",
            flush=True,
        )

    async def _try_quotas(self) -> None:
        """Let somebody who had many sessions killed have as many as anybody, and not one more."""
        for what, command, most in (
            ("sessions", "sub -k quota", MOST_SESSIONS),
            ("patterns", "sub '**'", MOST_PATTERNS),
        ):
            clients: list[Library] = []
            try:
                clients += [await self._try(place, command) for place in range(most)]
                await asyncio.sleep(1.0)  # until all machines know, and who is refused has ended
                for client in clients:
                    if client.ended:
                        self.tally.fail("quotas", f"not {most} {what}: {client.words}")
                if not await self._is_refused(command, clients):
                    self.tally.fail("quotas", f"{most + 1} {what}")
                self.tally.count(f"{what} that one user could have at the end", most)
            except (TimeoutError, *CLOSED) as error:
                self.tally.fail("quotas", f"{len(clients)} {what}: {error!r}")
            finally:
                await asyncio.gather(*(client.close() for client in clients))
            await self.service.wait_quiet(SETTLE_SECONDS)

    async def _is_refused(self, command: str, clients: list[Library]) -> bool:
        """Whether nobody may come any more."""
        try:
            more = await self._try(len(clients), command)
        except asyncssh.ChannelOpenError:
            return True
        clients.append(more)
        async with asyncio.timeout(LONGEST_SECONDS):
            return await more.wait() != Status.OK

    async def _try(self, place: int, command: str) -> Library:
        machines = self.service.machines
        port = machines[place % len(machines)].port
        return await Library.start(Wish("alice", self.keys["alice"], port), command)

    # -- the end ----------------------------------------------------------------------------------

    def judge(self) -> None:
        """Stop the service, and note what has grown or was said in its logs."""
        for machine in self.service.machines:
            if not machine.running:
                self.tally.fail("server", f"{machine.name} has ended by itself")
            elif (status := machine.stop()) != Status.OK:
                self.tally.fail("server", f"{machine.name} ended with {status}")
        self.service.close()
        for machine in self.service.machines:
            if machine.log_path.exists():
                for line in machine.complaints():
                    self.tally.fail("lines in a server's log", line)
                for text, number in machine.warnings().items():
                    self.tally.count(text, number)
        for traced in self._traced.values():
            for line in traced.grown():
                self.tally.fail("left behind", line)

    def report(self) -> str:
        """The table, and what was broken."""
        counts = self.tally.counts
        kinds = {line.partition(":")[0] for line in self.tally.broken}
        rows = [("scenes", f"{sum(self.tally.scenes.values())}")]
        rows += [(f"  {name}", str(count)) for name, count in self.tally.scenes.most_common()]
        rows += [("processor time", f"{self.count_cpu():.0f} s")]
        rows += [
            (name, f"{count / MIB:.0f} MiB" if name.startswith("bytes") else str(count))
            for name, count in sorted(counts.items())
            if name not in kinds
        ]
        for fault, times in sorted(self._wrecker.serves.items()):
            rows.append((f"{fault}, {len(times)} times", f"serves after {_span(times)}"))
            rows.append(("", f"names free after {_span(self._wrecker.frees[fault])}"))
        for role, held in sorted(self._levels.items()):
            third = max(1, len(held) // 3)
            for name in ("memory", "descriptors", "threads"):
                parts = [held[:third], held[-third:]]
                means = [statistics.fmean(getattr(one, name) for one in part) for part in parts]
                most = max(getattr(one, name) for one in held)
                unit, divisor = ("MiB ", MIB) if name == "memory" else ("", 1)
                texts = [f"{value / divisor:.1f}" for value in (*means, most)]
                rows.append((f"{role}: {name}", f"{unit}{texts[0]} → {texts[1]}, most {texts[2]}"))
        rows += [("", "(means of the first and the last third of all quiet points)")]
        longest = max((traced.times for traced in self._traced.values()), default=0)
        rows += [("processes seen; quiet points of the oldest", f"{len(self._traced)}; {longest}")]
        rows += [(name, str(counts[name])) for name in sorted(kinds)]
        rows += [("broken promises", str(len(self.tally.broken)))]
        return "\n".join([table(rows), *(f"  ! {line}" for line in self.tally.faults())])


def _span(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} s, at most {max(times):.1f} s"
