"""The worker processes: started, replaced by others, started again when one dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from pipe.errors import Outcome, StartError
from pipe.hub.channel import Channel, make_pair
from pipe.mesh.directory import WorkerId

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from pipe.hub.channel import Message
    from pipe.limits.gate import Visit

log = structlog.get_logger()

WORKER_VARIABLE = "_PIPE_WORKER"
"""As in `pipe.cli`: tells a process that it is a worker, and which descriptor is its socket."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
"""How long to wait before a worker that died is started again; it doubles each time."""

LAY_DOWN_SECONDS = 5.0
"""How long to wait until a worker has laid down its duties: one that stands still never does, and
shall not keep others from them."""

LIVED_SECONDS = 10.0
"""A worker that has lived for so long died of something new: the pause begins anew."""


class Owner(Protocol):
    """What a crew tells the hub."""

    def first_message(self, worker: Worker) -> Message:
        """What a worker has to know before it can begin."""

    def received(self, worker: Worker, message: Message, descriptor: socket.socket | None) -> None:
        """A worker says something."""

    def came(self, worker: Worker) -> None:
        """A worker is ready."""

    def went(self, worker: Worker) -> None:
        """A worker is gone, whether it was ever ready or not."""


class Worker:
    """One worker process, as the hub sees it."""

    def __init__(self, ident: WorkerId, process: asyncio.subprocess.Process) -> None:
        self.ident = ident
        self.process = process
        self.channel: Channel
        self.began = time.monotonic()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.silent = asyncio.Event()  # all that it has said is read
        self.ended = asyncio.Event()
        self.leaving = False  # it gets nothing new
        self.still = False  # it does not answer
        self.draining = False  # it was told to
        self.guests: dict[int, Visit] = {}
        self.logging_in = 0
        self.build = ""  # of its program, which may be replaced while others run

    @property
    def serves(self) -> bool:
        """Whether it can be given connections."""
        return self.is_ready and not self.leaving and not self.ended.is_set()

    @property
    def is_ready(self) -> bool:
        """Whether it has been able to begin."""
        return self.ready.done() and not self.ready.cancelled() and not self.ready.exception()

    @property
    def key(self) -> str:
        """By which it is labelled."""
        return str(self.ident.number)


class Crew:
    """All workers.

    Args:
        size: how many serve.
        owner: the hub.
        node: the machine's name, where there are several.

    Attributes:
        epoch: before those of all its workers.
        pausing: numbers of workers that have died and are about to be started again.
    """

    def __init__(self, size: int, owner: Owner, node: str = "") -> None:
        self._size = size
        self._owner = owner
        self._node = node
        self.epoch = self._epoch = time.time_ns() // 1_000_000
        self._keepers: set[asyncio.Task[None]] = set()
        self._generation = 0
        self.pausing: set[int] = set()
        self._halt = asyncio.Event()
        self.workers: dict[WorkerId, Worker] = {}

    @property
    def serving(self) -> list[Worker]:
        """Those that can be given connections, by number."""
        return sorted((one for one in self.workers.values() if one.serves), key=_number)

    async def start(self) -> list[Worker]:
        """Start as many as are wanted, beside those that there are.

        The first begins alone, as it makes what all need, and has all reasons not to start.

        Returns:
            Those that there were, whether they are ready or not: none is started again.

        Raises:
            StartError: they cannot; none is left.
        """
        taken = {ident.number for ident in self.workers} | self.pausing
        free = (number for number in itertools.count(1) if number not in taken)
        numbers = list(itertools.islice(free, self._size))
        started: list[Worker] = []
        try:
            launched = await asyncio.gather(*map(self._launch, numbers), return_exceptions=True)
            started += (one for one in launched if isinstance(one, Worker))
            for error in launched:
                if isinstance(error, BaseException):
                    raise error
            if self._halt.is_set():
                raise StartError("the server is shutting down")
            for some in (started[:1], started[1:]):
                for worker in some:
                    self._begin(worker)
                await asyncio.gather(*(worker.ready for worker in some))
        except BaseException:
            await self._drop(started)
            raise
        self._generation += 1
        for worker in started:
            keeper = asyncio.get_running_loop().create_task(self._keep(worker, self._generation))
            self._keepers.add(keeper)
            keeper.add_done_callback(self._keepers.discard)
        return [one for one in self.workers.values() if one not in started]

    def stop(self, *, now: bool = False) -> None:
        """Tell all to drain, or if they drain already, to stop now.

        One that stands still is ended.
        """
        self._halt.set()
        for worker in list(self.workers.values()):
            if worker.still:
                _kill(worker)
            elif now or not worker.draining:
                self.dismiss(worker)

    def dismiss(self, worker: Worker) -> None:
        """Tell one to drain; told again, it stops now."""
        worker.leaving = worker.draining = True
        if worker.is_ready:
            worker.channel.send({"type": "stop"})
        elif not worker.ended.is_set():
            _kill(worker)

    async def wait_gone(self) -> None:
        """Return once no worker is left."""
        while self._keepers or self.workers:
            waits = [*self._keepers]
            if waits:
                await asyncio.wait(waits)
            await asyncio.gather(*(one.ended.wait() for one in list(self.workers.values())))

    async def _launch(self, number: int) -> Worker:
        """Start a process, which loads its program and waits for its first message."""
        ours, theirs = make_pair()
        try:
            process = await asyncio.create_subprocess_exec(
                *program(),
                "worker",
                str(number),
                env={**os.environ, WORKER_VARIABLE: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the hub
            )
        except OSError as error:
            ours.close()
            raise StartError(f"cannot start a worker: {error.strerror or error}") from error
        finally:
            theirs.close()
        self._epoch += 1
        worker = Worker(WorkerId(self._node, number, self._epoch), process)
        worker.channel = Channel(
            ours,
            lambda message, descriptor: self._take(worker, message, descriptor),
            worker.silent.set,
        )
        self.workers[worker.ident] = worker
        watch = asyncio.get_running_loop().create_task(self._watch(worker))
        self._keepers.add(watch)
        watch.add_done_callback(self._keepers.discard)
        return worker

    def _begin(self, worker: Worker) -> None:
        worker.channel.send(self._owner.first_message(worker))

    def _take(self, worker: Worker, message: Message, descriptor: socket.socket | None) -> None:
        match message.get("type"):
            case "ready":
                if not worker.ready.done():
                    worker.build = message.get("build", "")
                    worker.ready.set_result(None)
                    self._owner.came(worker)
            case "failed":
                if not worker.ready.done():
                    error = StartError(message["text"])
                    error.outcome = Outcome[message["outcome"]]
                    worker.ready.set_exception(error)
            case _:
                self._owner.received(worker, message, descriptor)

    async def _watch(self, worker: Worker) -> None:
        """Note the end of a process."""
        await worker.process.wait()
        await worker.silent.wait()
        worker.channel.close()
        if not worker.ready.done():
            text = f"worker {worker.key} {why(worker)} before it was ready"
            worker.ready.set_exception(StartError(text))
        worker.ready.exception()  # it is known
        del self.workers[worker.ident]
        worker.ended.set()
        self._owner.went(worker)

    async def _keep(self, worker: Worker, generation: int) -> None:
        """Start a worker again whenever it dies, until others take its generation's place."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await worker.ended.wait()
            if worker.leaving or self._is_over(generation):
                return
            if worker.is_ready and time.monotonic() - worker.began > LIVED_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            number, reason, again = worker.ident.number, why(worker), None
            self.pausing.add(number)
            while again is None and not self._is_over(generation):
                log.error("worker ended", worker=number, reason=reason, pause_seconds=pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._halt.wait(), pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                if not self._is_over(generation):
                    again, reason = await self._launch_again(number)
            self.pausing.remove(number)
            if again is None:
                return
            worker = again
            if self._is_over(generation):
                self.dismiss(worker)
            else:
                self._begin(worker)

    async def _launch_again(self, number: int) -> tuple[Worker | None, str]:
        """Start a process, or return why that cannot be."""
        try:
            return await self._launch(number), ""
        except StartError as error:
            return None, error.message

    def _is_over(self, generation: int) -> bool:
        return self._halt.is_set() or generation != self._generation

    async def _drop(self, workers: Iterable[Worker]) -> None:
        """End those that cannot begin, or need not."""
        for worker in workers:
            worker.leaving = True
            _kill(worker)
        await asyncio.gather(*(worker.ended.wait() for worker in workers))


def program() -> list[str]:
    """The words that started this process, without its arguments: they may hold a password."""
    words = len(sys.orig_argv) - len(sys.argv) + 1
    return [sys.executable, *sys.orig_argv[1:words]]


def why(worker: Worker) -> str:
    """Why a process has ended, for people."""
    if worker.ready.done() and not worker.ready.cancelled():
        error = worker.ready.exception()
        if isinstance(error, StartError):
            return error.message
    status = worker.process.returncode or 0
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _kill(worker: Worker) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.process.kill()


def _number(worker: Worker) -> int:
    return worker.ident.number
