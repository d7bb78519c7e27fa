"""What is done to a service under a soak, once a minute, and how soon it serves again.

A fault is made by turns, at a moment and to a process that chance chooses.  `Fault.harms` says
whether a stream may end by it: one that promises to harm nobody excuses nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tests.e2e.server import Status

from .clients import CLOSED, Library, Wish

if TYPE_CHECKING:
    import random

    from .several import Machine, Service

SHORT: Final = (0.2, 1.2)
"""Seconds that a process stands still and nobody minds: a link is given up after 3 s of silence."""

LONG: Final = (4.0, 8.0)
AWAY: Final = (0.0, 20.0)
"""Its names are free for others after 15 s."""

SERVES_SECONDS: Final = 30.0
"""After a fault until new streams get from each machine to each: some seconds, but the machine may
be busy with much else."""

FREE_SECONDS: Final = 30.0
"""After a fault until a name that was in use can be had: 15 s, and the time to notice."""

WORD: Final = b"here I am"
TRY_SECONDS: Final = 5.0
REST_SECONDS: Final = 0.1

Act = Callable[["Service", "random.Random"], Awaitable[str]]


@dataclass(frozen=True)
class Fault:
    """Something that is done.

    Attributes:
        act: does it, returns when it is over, and says to whom it was done.
        harms: whether streams may end by it.
        alone: whether it can be done to one machine without others.
    """

    act: Act
    harms: bool = True
    alone: bool = True

    @property
    def name(self) -> str:
        """What it is."""
        return self.act.__name__.replace("_", " ")


def _worker(service: Service, draw: random.Random) -> tuple[int, str]:
    machine = service.choose(draw)
    pid = draw.choice(machine.crew)
    return pid, f"{pid} of {machine.name}"


async def _stop(pids: list[int], seconds: float) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def worker_killed(service: Service, draw: random.Random) -> str:
    """SIGKILL; the hub starts another."""
    pid, who = _worker(service, draw)
    os.kill(pid, signal.SIGKILL)
    return who


async def worker_stopped(service: Service, draw: random.Random) -> str:
    """For so long that its links are given up."""
    pid, who = _worker(service, draw)
    await _stop([pid], draw.uniform(*LONG))
    return who


async def worker_stopped_for_a_moment(service: Service, draw: random.Random) -> str:
    """Nothing is lost."""
    pid, who = _worker(service, draw)
    await _stop([pid], draw.uniform(*SHORT))
    return who


async def worker_hung_up(service: Service, draw: random.Random) -> str:
    """SIGHUP means nothing to it."""
    pid, who = _worker(service, draw)
    os.kill(pid, signal.SIGHUP)
    return who


async def workers_replaced(service: Service, draw: random.Random) -> str:
    """SIGHUP to a hub: those who are there stay in the old ones."""
    machine = service.choose(draw)
    machine.send(signal.SIGHUP)
    return machine.name


async def hub_killed(service: Service, draw: random.Random) -> str:
    """Its workers go with it, and somebody starts the machine anew."""
    machine = service.choose(draw)
    machine.send(signal.SIGKILL)
    return await _start_again(machine, draw)


async def hub_stopped(service: Service, draw: random.Random) -> str:
    """Nobody can come meanwhile."""
    machine = service.choose(draw)
    await _stop([machine.hub], draw.uniform(*LONG))
    return machine.name


async def machine_killed(service: Service, draw: random.Random) -> str:
    """All at once, and somebody starts it anew."""
    machine = service.choose(draw)
    machine.send(signal.SIGKILL, all_of_it=True)
    return await _start_again(machine, draw)


async def _start_again(machine: Machine, draw: random.Random) -> str:
    await machine.wait_gone()
    away = draw.uniform(*AWAY)
    await asyncio.sleep(away)
    await machine.start()
    return f"{machine.name} for {away:.1f} s"


async def machine_stopped(service: Service, draw: random.Random) -> str:
    """Sometimes for so long that others have its names."""
    machine = service.choose(draw)
    seconds = draw.uniform(LONG[0], AWAY[1])
    await _stop([machine.hub, *machine.crew], seconds)
    return f"{machine.name} for {seconds:.1f} s"


async def database_away(service: Service, draw: random.Random) -> str:
    """Nobody can log in meanwhile."""
    assert service.postgres
    await asyncio.to_thread(service.postgres.stop)
    await asyncio.sleep(draw.uniform(*LONG))
    await asyncio.to_thread(service.postgres.start)
    return "PostgreSQL"


FAULTS: Final = (
    Fault(worker_killed),
    Fault(machine_stopped),
    Fault(workers_replaced, harms=False),
    Fault(hub_killed),
    Fault(worker_stopped),
    Fault(worker_hung_up, harms=False),
    Fault(database_away, alone=False),
    Fault(machine_killed),
    Fault(worker_stopped_for_a_moment, harms=False),
    Fault(hub_stopped),
)


class Wrecker:
    """Makes faults, and knows when.

    Args:
        service: to which.
        draw: the random numbers.
        wish: how somebody connects who looks whether it serves again.

    Attributes:
        made: how often which fault was made.
        serves: seconds until it served again, by the fault.
        frees: the same until a name in use could be had.
        faults: what was not as it should be.
    """

    def __init__(self, service: Service, draw: random.Random, wish: Wish) -> None:
        self._service = service
        self._draw = draw
        self._wish = wish
        self._numbers = itertools.count()
        usable = [fault for fault in FAULTS if fault.alone or service.postgres]
        draw.shuffle(usable)
        self._turns = itertools.cycle(usable)
        self._now = False
        self._last = 0.0
        self.serves: defaultdict[str, list[float]] = defaultdict(list)
        self.frees: defaultdict[str, list[float]] = defaultdict(list)
        self.faults: list[str] = []

    def was_hit(self, since: float) -> bool:
        """Whether a fault that may end streams was under way since then."""
        return self._now or self._last >= since

    async def make(self) -> str:
        """Make the next one, see that the service serves again, and say what was done.

        Raises:
            BenchError: a machine did not start again.
        """
        fault = next(self._turns)
        name = f"used-{next(self._numbers)}"
        user = await self._start(self._service.choose(self._draw), f"sub -k {name}")
        self._now = fault.harms
        who = await fault.act(self._service, self._draw)
        over = time.monotonic()
        serves = await self._measure(self._is_serving, over, SERVES_SECONDS, fault.name)
        self.serves[fault.name].append(serves)
        frees = await self._measure(lambda: self._is_free(name), over, FREE_SECONDS, fault.name)
        self.frees[fault.name].append(frees)
        if fault.harms:
            self._now, self._last = False, time.monotonic()
        await user.close()
        return f"{fault.name} ({who}): serves after {serves:.1f} s, names free after {frees:.1f} s"

    async def _measure(
        self, is_so: Callable[[], Awaitable[bool]], over: float, limit: float, name: str
    ) -> float:
        while not await is_so():
            if time.monotonic() > over + 3 * limit:
                break
            await asyncio.sleep(REST_SECONDS)
        seconds = time.monotonic() - over
        if seconds > limit:
            self.faults.append(f"{name}: after {seconds:.1f} s, {is_so.__name__} was not so")
        return seconds

    async def _is_serving(self) -> bool:
        """Whether a new stream gets from each machine to each."""
        machines = self._service.machines
        for reads, writes in itertools.product(machines, machines):
            if not await self._passes(reads, writes):
                return False
        return True

    async def _passes(self, reads: Machine, writes: Machine) -> bool:
        topic = f"new-{next(self._numbers)}"
        clients = []
        try:
            async with asyncio.timeout(TRY_SECONDS):
                clients = [await self._start(reads, f"sub {topic}")]
                clients.append(await self._start(writes, f"pub -m 1 -t 3s {topic}"))
                await clients[1].send(WORD)
                clients[1].end_input()
                ends = [await client.wait() for client in reversed(clients)]
        except CLOSED:
            return False
        finally:
            await asyncio.gather(*(client.close() for client in clients))
        return ends == [Status.OK] * 2 and clients[0].received == WORD

    async def _is_free(self, name: str) -> bool:
        """Whether a name can be had from each machine."""
        for machine in self._service.machines:
            client = None
            try:
                async with asyncio.timeout(TRY_SECONDS):
                    client = await self._start(machine, f"pub -b=false {name}")
                    client.end_input()
                    if await client.wait() != Status.OK:
                        return False
            except CLOSED:
                return False
            finally:
                if client:
                    await client.close()
        return True

    async def _start(self, machine: Machine, command: str) -> Library:
        return await Library.start(replace(self._wish, port=machine.port), command)
