"""Feeds the lane and the parser of requests with mutated input, and looks at what must hold.

    python -m tests.fuzz.fuzz_lane --runs 100000 --seconds 600 --seed 1

This is the short pass of the tests, and what is left where atheris cannot be installed;
`tests.fuzz.guided` sends inputs that it chooses by the code that they reach.

An input is a row of packets.  Each has a byte that says what is done to it on its way (`Way`), two
bytes of length, and its payload.  The seeds in ``corpus`` are such rows, all of them valid.  An
input goes to a connection that may have had others before; a connection that an input ended is
replaced.  A failure prints the inputs that the connection has had, as hexadecimal lines; they can
be repeated with ``--repeat FILE``.  With each input goes a mutated command for the parser.
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncssh
from asyncssh.packet import PacketDecodeError

from pipe.errors import UsageError
from pipe.language.requests import parse
from pipe.settings import Lane
from pipe.ssh.lane import Outbox
from pipe.stream.chunks import Chunk
from tests.fuzz.bare import BareWire, Model
from tests.ssh.messages import data, padded
from tests.ssh.wire import Recorder, Wire, make_service

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CORPUS: Final = Path(__file__).with_name("corpus")

MAX_INPUT_BYTES: Final = 4096
MAX_PACKETS: Final = 16
TURNS: Final = 4
"""Turns of the loop that an input gets before the next one comes."""

CHECK_EVERY: Final = 200
"""Inputs after which the innocent connection beside is looked at."""

CHANNELS: Final = 2
WINDOW: Final = 1 << 17
BUFFER: Final = 1 << 16
LONGEST_CHUNK: Final = 1 << 15
MOST: Final = 1024
"""Bytes that the client takes in one packet."""

INTERESTING: Final = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
)


class Way(enum.IntFlag):
    """What is done to a packet."""

    PLAIN = 0
    """Sealed with the padding that it needs."""
    RAW = 1
    """Not sealed: the bytes stand for a frame."""
    UNPADDED = 2
    """Sealed as if it had padding already."""
    FLIPPED = 4
    """Sealed, and then changed in one bit."""
    CUT = 8
    """Delivered in two reads."""


def read_input(content: bytes) -> Iterator[tuple[Way, bytes]]:
    """Split an input into its packets; any bytes are an input."""
    for _ in range(MAX_PACKETS):
        if len(content) < 3:
            return
        size = int.from_bytes(content[1:3], "big")
        yield Way(content[0] & 15), content[3 : 3 + size]
        content = content[3 + size :]


def write_input(packets: Sequence[tuple[Way, bytes]]) -> bytes:
    """Make an input of packets."""
    return b"".join(
        bytes([way]) + len(payload).to_bytes(2, "big") + payload for way, payload in packets
    )


class Mutator:
    """Makes new inputs of old ones."""

    def __init__(self, seeds: Sequence[bytes], seed: int) -> None:
        self._random = random.Random(seed)
        self._seeds = list(seeds)

    def next(self) -> bytes:
        """One more input."""
        draw = self._random
        content = bytearray(draw.choice(self._seeds))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            self._mutate(content)
        return bytes(content[:MAX_INPUT_BYTES])

    def _mutate(self, content: bytearray) -> None:
        draw = self._random
        at = draw.randrange(len(content) + 1)
        kind = draw.randrange(7)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and at < len(content):
            content[at] = draw.randrange(256)
        elif kind == 2:
            new = draw.choice(INTERESTING)
            content[at : at + len(new)] = new
        elif kind == 3:
            content[at:at] = draw.randbytes(draw.choice((1, 2, 4, 16)))
        elif kind == 4:
            del content[at : at + draw.choice((1, 2, 4, 16))]
        elif kind == 5:
            other = draw.choice(self._seeds)
            content[at:] = other[draw.randrange(len(other) + 1) :]
        else:
            content += draw.choice(self._seeds)


class BrokenPromise(AssertionError):
    """Something did not hold; ``inputs`` are those that the connection has had."""

    def __init__(self, what: str, inputs: Sequence[bytes]) -> None:
        super().__init__(what)
        self.inputs = list(inputs)


class LaneTarget:
    """A connection that gets the inputs, and an innocent one beside it on the same server."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._service = make_service(Lane.FAST, window=WINDOW, buffer=BUFFER)
        self._outbox = Outbox(loop, self._service.turns)
        self._wire: BareWire | None = None
        self._innocent: Wire | None = None
        self._model: Model
        self._inputs: list[bytes] = []
        self._complaints: list[str] = []
        self._greetings = 0
        self.connections = 0
        loop.set_exception_handler(self._complain)

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def _connect(self) -> BareWire:
        if self._innocent is None:
            self._innocent = Wire(Lane.FAST, service=self._service, outbox=self._outbox)
            await self._innocent.log_in()
            self._model = Model(self._innocent)
            await self._innocent.open(CHANNELS, most=MOST)
        wire = BareWire(self._model, self._service, self._outbox)
        await wire.open_channels(CHANNELS, MOST)
        return wire

    async def run(self, content: bytes) -> None:
        """Send one input.

        Raises:
            BrokenPromise: something does not hold.
        """
        if self._wire is None:
            self._wire = await self._connect()
            self._wire.on_chunk = self._echo
            self._inputs = []
            self.connections += 1
        self._inputs.append(content)
        wire = self._wire
        for way, payload in read_input(content):
            self._send(wire, way, payload)
        for _ in range(TURNS):
            wire.exchange()
            await asyncio.sleep(0)
        self._check(wire)
        if wire.lost or wire.server_side.closed or wire.server.blocked:
            await self._retire()
        else:
            wire.bare.received.clear()
            wire.events.clear()

    def _send(self, wire: BareWire, way: Way, payload: bytes) -> None:
        if way & Way.RAW:
            frame = payload
        elif way & Way.UNPADDED:
            frame = wire.bare.frame(payload or b"\0")
        else:
            frame = wire.bare.frame(padded(payload))
        if way & Way.FLIPPED and frame:
            changed = bytearray(frame)
            changed[len(payload) * 7 % len(frame)] ^= 1 << len(payload) % 8
            frame = bytes(changed)
        if way & Way.CUT:
            wire.cut([len(frame) // 2])
        wire.bare.send_raw(frame)

    def _echo(self, source: Recorder, chunk: Chunk) -> None:
        """Write what comes on one channel to all, as the router would."""
        assert self._wire
        for session in self._wire.sessions:
            if not session.port.clogged and session is not source:
                session.port.write(chunk)

    def _check(self, wire: BareWire) -> None:
        for received in wire.bare.received:
            if received.kind == 94 and len(received.body) > MOST + 8:
                self._fail(f"a packet of {len(received.body)} bytes")
        for session in wire.sessions:
            if session.port.pending > BUFFER + LONGEST_CHUNK:
                self._fail(f"{session.port.pending} bytes are kept for a reader")
        for reason in wire.lost:
            known = (asyncssh.DisconnectError, PacketDecodeError)  # what asyncssh raises on purpose
            if not (reason is None or isinstance(reason, known)):
                self._fail(f"the connection ended with {reason!r}")
        if wire.faults:
            self._fail(f"a fault of ours: {wire.faults}")
        if self._complaints:
            self._fail("; ".join(self._complaints))

    def _fail(self, what: str) -> None:
        raise BrokenPromise(what, self._inputs)

    async def _retire(self) -> None:
        """Take the connection away, and see that nothing of it is left."""
        assert self._wire
        wire, self._wire = self._wire, None
        if not wire.server_side.closed:
            wire.server_side.break_off()
        for _ in range(2 * TURNS):
            if wire.lost and not wire.server.ports:
                break
            await asyncio.sleep(0)
        if not wire.lost:
            wire.server.connection_lost(None)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        await asyncio.sleep(0)  # tasks that were made just before may find nobody there
        self._check(wire)
        if wire.server.ports or getattr(wire.server, "lane_ports", None):
            self._fail("ports are left of a connection that is gone")

    async def check_innocent(self) -> None:
        """See that the connection beside is served as ever."""
        wire = self._innocent
        if wire is None:
            return
        wire.events.clear()
        self._greetings += 1
        text = b"%d" % self._greetings
        wire.client.send(data(0, text))
        wire.sessions[1].port.write(Chunk(text))
        await wire.settle()
        if wire.lost or wire.events != [(0, text)] or wire.client.data(1) != text:
            self._fail("another connection is not served any more")
        wire.client.received.clear()

    async def close(self) -> None:
        """Take both away."""
        if self._wire:
            await self._retire()
        if self._innocent:
            await self._innocent.finish()


def check_request(command: bytes) -> None:
    """Read a command: a request comes of it, or a sentence that can be printed.

    Raises:
        BrokenPromise: neither does.
    """
    try:
        parse(command.decode("utf-8", "replace"))
    except UsageError as error:
        if not error.message.replace("\n", "").isprintable():
            raise BrokenPromise(f"unprintable: {error.message!r}", [command]) from error
    except Exception as error:
        raise BrokenPromise(f"the parser of requests: {error!r}", [command]) from error


def load_corpus() -> list[bytes]:
    """The rows of packets to begin with, in a fixed order."""
    return [bytes.fromhex(path.read_text()) for path in sorted(CORPUS.glob("*.hex"))]


def load_commands() -> list[bytes]:
    """The commands to begin with."""
    return (CORPUS / "commands.txt").read_bytes().splitlines()


async def fuzz(runs: int, seconds: float, seed: int) -> tuple[int, int]:
    """Try so many inputs, or as many as the time allows.

    Returns:
        How many inputs and how many connections that were.

    Raises:
        BrokenPromise: something did not hold.
    """
    mutator, target = Mutator(load_corpus(), seed), LaneTarget()
    commands = Mutator(load_commands(), seed)
    deadline = time.monotonic() + seconds
    done = 0
    while done < runs and time.monotonic() < deadline:
        if done % CHECK_EVERY == 0:
            await target.check_innocent()
        check_request(commands.next())
        await target.run(mutator.next())
        done += 1
    await target.check_innocent()
    await target.close()
    return done, target.connections


async def repeat(inputs: Sequence[bytes]) -> None:
    """Send these to one connection."""
    target = LaneTarget()
    for content in inputs:
        await target.run(content)
    await target.check_innocent()
    await target.close()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs to try")
    parser.add_argument("--seconds", type=float, default=3600.0, help="stop after this long")
    parser.add_argument("--seed", type=int, default=None, help="to get the same inputs again")
    parser.add_argument("--repeat", type=Path, help="a file of inputs from a failure")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    try:
        if options.repeat:
            lines = options.repeat.read_text().split()
            asyncio.run(repeat([bytes.fromhex(line) for line in lines]))
            return 0
        print(f"seed {seed}", flush=True)  # noqa: T201
        runs, connections = asyncio.run(fuzz(options.runs, options.seconds, seed))
    except BrokenPromise as error:
        print(f"seed {seed}: {error}", file=sys.stderr)  # noqa: T201
        for content in error.inputs:
            print(content.hex(), file=sys.stderr)  # noqa: T201
        return 1
    print(f"{runs} inputs on {connections} connections, and all held")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
