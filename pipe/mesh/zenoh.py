"""Wires over Zenoh: numbers on top of it, so that what it drops in silence is noticed.

A message is a number and some frames, each behind its length; one without frames is a beat.  The
numbers of a direction have no gaps.  Each wire has a thread that sends, as that may wait for a peer
that stands still, and no other wire should wait with it.  One thread receives for all, and wakes
the loop once for what has come meanwhile.

A wire's key names who sends and receives, which of the two opened it, and that one's count of
wires: no two wires of a process ever have the same, so no frame of an old one counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Self

import structlog
import zenoh

from pipe.errors import Unreachable
from pipe.language.names import escape
from pipe.language.quantities import KIB, MIB
from pipe.mesh.greeting import BadGreeting, Greeting, decode_answer, encode_answer
from pipe.mesh.peer import PREFIX, parse_worker_key, worker_key
from pipe.mesh.pulse import SILENCE_SECONDS, Pulse
from pipe.mesh.wire import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.peer import ZenohPeer
    from pipe.mesh.wire import Acceptor, End, Pieces

log = structlog.get_logger()

HIGH_WATER = MIB
LOW_WATER = 256 * KIB

MESSAGE = 256 * KIB
"""Bytes of frames after which a message takes no more."""

RECEIVED_MESSAGES = 64
"""Messages that Zenoh keeps for the reading thread."""

WAITING = 16 * MIB
"""Bytes that wait for the loop before the reading thread waits too, and Zenoh with it."""

RETRY_SECONDS = 0.25
"""A greeting is said again: Zenoh drops what comes before it has heard of whom it is for."""

_NUMBER = 8
_HEAD = 4
"""Bytes of a message's number, and of a frame's length."""

_GREETING = bytes(_NUMBER)
_END = bytes([255]) * _NUMBER
"""The numbers of the first message and of the last."""

_OPENER, _ACCEPTER = "o", "a"
"""Who sends, in a key."""


class ZenohWire:
    """One wire; `ZenohWires` makes them."""

    def __init__(
        self,
        wires: ZenohWires,
        peer: WorkerId,
        key: str,
        first: bytes,
    ) -> None:
        self.peer = peer
        self._wires = wires
        self._key = key
        self._first = first
        self._end: End | None = None
        self.early: Callable[[str], None] | None = None
        """Is told if the wire is lost before it begins."""
        self._expected = 1
        self._over = False
        self._blocked = False
        self._ready = threading.Condition()
        self._queue: deque[Pieces] = deque()
        self._unsent = 0
        self._beat_due = False
        self._loop = wires.loop
        self._pulse = Pulse(self._loop, self._beat, self._silent)
        self._kept: list[bytes] = []
        threading.Thread(target=self._work, name="pipe-wire", daemon=True).start()

    def begin(self, end: End) -> None:
        """Tell an end what comes, from the first frame on."""
        self._end = end
        kept, self._kept = self._kept, []
        for message in kept:
            self.take(message)

    # -- a wire's ---------------------------------------------------------------------------------

    def send(self, frames: Sequence[Pieces]) -> None:
        """Send some frames."""
        if self._over:
            return
        with self._ready:
            self._queue.extend(frames)
            self._unsent += sum(map(size_of, frames))
            over = self._unsent > HIGH_WATER
            self._ready.notify()
        self._pulse.sent()
        if over and not self._blocked:
            self._block(blocked=True)

    @property
    def blocked(self) -> bool:
        """Whether more than 1 MiB is unsent."""
        return self._blocked

    def close(self) -> None:
        """End it now; the other end is told, or notices that it hears nothing more."""
        if self._over:
            return
        self._over = True
        self._pulse.stop()
        self._wires.forget(self)
        with self._ready:
            self._queue.clear()
            self._ready.notify()

    # -- in the loop ------------------------------------------------------------------------------

    def take(self, message: bytes) -> None:
        """A message has come."""
        if self._over:
            return
        self._pulse.heard()
        if message == _END:
            self.lose("it has closed the link")
            return
        if int.from_bytes(message[:_NUMBER]) != self._expected + len(self._kept):
            self.lose("a frame is missing")
            return
        if self._end is None:
            self._kept.append(message)
            return
        self._expected += 1
        view = memoryview(message)
        start = _NUMBER
        if len(message) == start:
            return
        while start < len(message) and not self._over:
            stop = start + _HEAD + int.from_bytes(view[start : start + _HEAD])
            if stop > len(message):
                self.lose("a frame is not whole")
                return
            self._end.received(view[start + _HEAD : stop])
            start = stop

    def lose(self, reason: str) -> None:
        """It is over, and not because this end wants it."""
        if self._over:
            return
        self.close()
        if self._end:
            self._end.lost(reason)
        elif self.early:
            self.early(reason)

    def _beat(self) -> None:
        with self._ready:
            self._beat_due = True
            self._ready.notify()

    def _silent(self) -> None:
        self.lose(f"it was silent for {SILENCE_SECONDS:g} seconds")

    def _block(self, *, blocked: bool) -> None:
        if not self._over and blocked is not self._blocked:
            self._blocked = blocked
            if self._end:
                self._end.wire_blocked(blocked)

    def _unblock(self) -> None:
        if self._unsent <= LOW_WATER:
            self._block(blocked=False)

    # -- in the sending thread --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            publisher = self._wires.session.declare_publisher(
                self._key,
                congestion_control=zenoh.CongestionControl.BLOCK,
                reliability=zenoh.Reliability.RELIABLE,
                allowed_destination=zenoh.Locality.REMOTE,
            )
            publisher.put(_GREETING + self._first)
            for number in itertools.count(1):
                message = self._next(number)
                if message is None:
                    break
                publisher.put(message)
            publisher.put(_END)
            publisher.undeclare()  # type: ignore[no-untyped-call]
        except zenoh.ZError as error:
            self._wires.call_soon(self.lose, f"Zenoh cannot send: {escape(str(error))}")

    def _next(self, number: int) -> bytes | None:
        """Wait for frames, and put them into one message; None at the end."""
        parts: list[bytes | memoryview] = [number.to_bytes(_NUMBER)]
        size = 0
        with self._ready:
            while not (self._queue or self._beat_due or self._over):
                self._ready.wait()
            if self._over:
                return None
            self._beat_due = False
            while self._queue and size < MESSAGE:
                frame = self._queue.popleft()
                length = size_of(frame)
                parts += (length.to_bytes(_HEAD), *frame)
                size += length
            before = self._unsent
            self._unsent -= size
            low = before > LOW_WATER >= self._unsent
        if low and self._blocked:
            self._wires.call_soon(self._unblock)
        return b"".join(parts)


class ZenohWires:
    """Opens and accepts wires for one worker.  Make it with `ZenohWires.open`."""

    def __init__(self, peer: ZenohPeer, accept: Acceptor) -> None:
        self.session = peer.session
        self.loop = asyncio.get_running_loop()
        self._peer = peer
        self._accept = accept
        self._count = itertools.count(1)
        self._wires: dict[str, ZenohWire] = {}
        """By the key under which their messages come."""
        self._answers: dict[str, asyncio.Future[str | None]] = {}
        self._room = threading.Condition()
        self._arrived: deque[tuple[str, zenoh.ZBytes]] = deque()
        self._waiting = 0
        self._woken = False
        peer.members.follow(lambda: None, self._died)
        self._subscriber = self.session.declare_subscriber(
            f"{PREFIX}/link/{worker_key(peer.me)}/**",
            zenoh.handlers.FifoChannel(RECEIVED_MESSAGES),
            allowed_origin=zenoh.Locality.REMOTE,
        )
        threading.Thread(target=self._read, name="pipe-wires", daemon=True).start()

    @classmethod
    async def open(cls, peer: ZenohPeer, accept: Acceptor) -> Self:
        """Accept wires, and let the others see this worker."""
        wires = cls(peer, accept)
        await peer.appear()
        return wires

    async def connect(self, worker: WorkerId, end: End) -> ZenohWire:
        """Open a wire to a worker.

        Args:
            worker: which; one that was started anew is another.
            end: is told what comes.

        Raises:
            Unreachable: it cannot be reached, or does not want the wire.
        """
        me, serial = self._peer.me, next(self._count)
        greeting = Greeting(me, worker, self._peer.identity).encode()
        back = _key(me, worker, _ACCEPTER, serial)
        answer: asyncio.Future[str | None] = self.loop.create_future()
        self._answers[back] = answer
        there = _key(worker, me, _OPENER, serial)
        wire = ZenohWire(self, worker, there, greeting)
        wire.early = lambda reason: None if answer.done() else answer.set_result(reason)
        self._wires[back] = wire
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                while not answer.done():
                    await asyncio.wait({answer}, timeout=RETRY_SECONDS)
                    if not answer.done():
                        await asyncio.to_thread(self._say_again, there, greeting)
            refusal = answer.result()
        except TimeoutError:
            refusal = f"no answer within {SILENCE_SECONDS:g} seconds"
        except BaseException:
            wire.close()
            raise
        finally:
            self._answers.pop(back, None)
        if refusal is not None:
            wire.close()
            raise Unreachable(
                f"{escape(worker.node)} cannot be reached from {self._peer.me.node}: {refusal}"
            )
        wire.begin(end)
        return wire

    async def close(self) -> None:
        """Accept no more, and end all wires."""
        for wire in list(self._wires.values()):
            wire.close()
        with contextlib.suppress(zenoh.ZError):
            await asyncio.to_thread(self._subscriber.undeclare)

    def forget(self, wire: ZenohWire) -> None:
        """A wire has ended."""
        for key, other in list(self._wires.items()):
            if other is wire:
                del self._wires[key]

    def call_soon(self, call: Callable[..., None], *arguments: object) -> None:
        """Call something in the loop, from a thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(call, *arguments)

    # -- in threads -------------------------------------------------------------------------------

    def _say_again(self, key: str, greeting: bytes) -> None:
        with contextlib.suppress(zenoh.ZError):
            self.session.put(
                key,
                _GREETING + greeting,
                congestion_control=zenoh.CongestionControl.DROP,
                allowed_destination=zenoh.Locality.REMOTE,
            )

    def _read(self) -> None:
        """Take what comes, until the subscriber ends."""
        channel = self._subscriber.handler
        with contextlib.suppress(zenoh.ZError):
            while True:
                self._keep(channel.recv())

    def _keep(self, sample: zenoh.Sample) -> None:
        """Keep a message for the loop, and wake it unless that was done since it last looked."""
        payload = sample.payload
        with self._room:
            self._arrived.append((str(sample.key_expr), payload))
            self._waiting += len(payload)
            wake, self._woken = not self._woken, True
        if wake:
            self.call_soon(self._take)
        with self._room:
            while self._waiting >= WAITING and not self.loop.is_closed():
                self._room.wait(RETRY_SECONDS)

    # -- in the loop ------------------------------------------------------------------------------

    def _take(self) -> None:
        with self._room:
            arrived, self._arrived = self._arrived, deque()
            self._woken = False
            self._waiting = 0
            self._room.notify()
        for key, payload in arrived:
            message = payload.to_bytes()
            wire = self._wires.get(key)
            if message.startswith(_GREETING):
                self._first(key, message[_NUMBER:])
            elif wire:
                wire.take(message)

    def _first(self, key: str, frame: bytes) -> None:
        """A greeting or its answer has come."""
        answer = self._answers.get(key)
        if answer:
            if not answer.done():
                try:
                    answer.set_result(decode_answer(frame))
                except BadGreeting:
                    answer.set_result("it does not speak the mesh's protocol")
            return
        *_, side, serial = key.split("/")
        sender = parse_worker_key(key.split("/")[-5:-2])
        if key in self._wires or side != _OPENER or sender is None or not serial.isdigit():
            return
        try:
            greeting = Greeting.decode(frame)
        except BadGreeting:
            return
        me = self._peer.me
        refusal = greeting.refusal(me, self._peer.identity)
        if greeting.sender != sender:
            refusal = "its greeting is another worker's"
        back = _key(sender, me, _ACCEPTER, int(serial))
        wire = ZenohWire(self, sender, back, encode_answer(refusal))
        if refusal is not None:
            log.warning("link refused", worker=escape(str(sender)), reason=refusal)
            self.loop.call_later(SILENCE_SECONDS, wire.close)
            return
        self._wires[key] = wire
        wire.begin(self._accept(sender, wire))

    def _died(self, worker: WorkerId) -> None:
        for wire in list(self._wires.values()):
            if wire.peer == worker:
                wire.lose("it is gone")


def _key(receiver: WorkerId, sender: WorkerId, side: str, serial: int) -> str:
    return f"{PREFIX}/link/{worker_key(receiver)}/{worker_key(sender)}/{side}/{serial}"
