"""What clients do while parts of the service are killed beside them: each is checked to the end.

A trial that nothing has happened to is judged as strictly as a scene.  In one that a fault has
touched each client ends with 0 or with what a fault explains; nobody hangs; who has 0 has all;
whoever has less has a beginning; and no receipt says more than what readers have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp

from loadtest.workspace import MIB
from tests.e2e.server import Status

from .checks import check_prefix, check_whole
from .clients import CLOSED, NO_STATUS, Client
from .scene import FATES, KIB, ExcusedError, Scene
from .web import Web

if TYPE_CHECKING:
    from .siege import Siege

PATIENCE: Final = "6s"
"""How long a writer waits for its reader."""

GRACE_SECONDS: Final = 3.0
"""How long a reader whose writer failed is left alone, before somebody asks whether it waits."""

WAITED: Final = 9
"""The status of a reader that was told by somebody else that its writer does not come."""

NOT_JOINED: Final = (Status.SHUTDOWN, Status.TIMEOUT, WAITED)
WEB_SHARE: Final = 0.2
HOLD: Final = "30s"
REST_SECONDS: Final = 0.3
ANSWER_SECONDS: Final = 15.0
"""Until what was sent through hooks and log lines must be there."""

NDJSON: Final = "application/x-ndjson"
DELIVERIES: Final = 8
RECEIPT: Final = re.compile(
    r"sent (\d+) bytes? to (\d+) subscribers?(?:, (\d+) of them left early)?"
)
STREAM: Final = re.compile(r"of stream ([0-9a-f]+)")


class Trial(Scene):
    """A scene at a service of which parts are killed."""

    def __init__(self, siege: Siege, number: int) -> None:
        super().__init__(siege, number)
        self.siege = siege

    async def reader(self, flags: str = "") -> Client:
        """Somebody who reads the topic, by SSH or HTTP."""
        if self.draw.random() < WEB_SHARE:
            query = "?whole=true" if "-w" in flags else ""
            self.tally.count("HTTP clients")
            return self.keep(
                Web.read_from(self.siege.web, self.siege.url(self.draw, f"t/{self.topic}{query}"))
            )
        return await self.client(f"sub{flags} {self.topic}")

    async def writer(self, least: int, flags: str = "") -> Client:
        """Somebody who writes into it, once there are so many readers."""
        if self.draw.random() < WEB_SHARE:
            query = f"?min-subs={least}&timeout={PATIENCE}" + ("&whole=true" if flags else "")
            self.tally.count("HTTP clients")
            return self.keep(
                Web.write_to(self.siege.web, self.siege.url(self.draw, f"t/{self.topic}{query}"))
            )
        return await self.client(f"pub -m {least} -t {PATIENCE}{flags} {self.topic}")

    async def end_waiting(self, readers: list[Client]) -> None:
        """Let readers end that wait, as they may, for a writer that has not come."""
        await asyncio.sleep(GRACE_SECONDS)
        while not all(reader.ended for reader in readers):
            with contextlib.suppress(*CLOSED):
                await self.siege.ask("alice", f"pub -e -x {WAITED} -t 2s {self.topic}")
            await asyncio.sleep(REST_SECONDS)

    def must(self, holds: bool, what: str) -> None:
        """Note a broken promise unless this holds."""
        if not holds:
            self.fail("broken laws", what)

    async def wait_for(self, client: Client, condition: Callable[[], bool]) -> bool:
        """Return once so, or when it was long enough or the client has ended; whether it is so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while not condition() and not client.ended:
                    await client.wait_news()
        return condition()

    async def wait_lame(self) -> None:
        """Never: a trial knows by itself what others wait for."""
        await asyncio.Event().wait()


async def transfer(trial: Trial) -> None:
    """A writer and readers anywhere, by SSH and HTTP, in any order."""
    draw = trial.draw
    data = draw.randbytes(trial.size(2 * MIB))
    flags = draw.choice(("", "", " -w"))
    count = draw.randint(1, 3)
    before = draw.randint(0, count)
    clients = [await trial.reader(flags) for _ in range(before)]
    writer = await trial.writer(count, flags)
    clients += [await trial.reader(flags) for _ in range(count - before)]
    if draw.random() < 0.2:
        clients[0].piece, clients[0].pause = 16 * KIB, 0.02
    piece = max(KIB, len(data) // draw.randint(4, 40))
    pause = draw.choice((0.0, 0.0, 0.02, 0.2))
    with contextlib.suppress(*CLOSED):
        for start in range(0, len(data), piece):
            await writer.send(data[start : start + piece])
            await asyncio.sleep(pause)
        trial.tally.count("bytes published", len(data))
        writer.end_input()
    wrote = await writer.wait()
    if wrote != Status.OK:
        await trial.end_waiting(clients)
    for reader in clients:
        await reader.wait()
    await judge(trial, data, writer, clients)


async def judge(trial: Trial, data: bytes, writer: Client, readers: list[Client]) -> None:
    """Compare what all have ended with, and the receipt, with what readers have.

    Raises:
        ExcusedError: not all is well, as a fault explains.
    """
    wrote = await writer.wait()
    lacking = 0
    for reader in readers:
        read = await reader.wait()
        whole = len(reader.received) == len(data)
        trial.check(check_prefix, data, reader.received)
        if read == Status.OK:
            trial.must(
                whole or reader.was_cut, f"{len(reader.received)} of {len(data)} bytes and 0"
            )
        elif read in NOT_JOINED:
            trial.must(not reader.received, f"{read} and {len(reader.received)} bytes")
        else:
            trial.must(read in FATES, f"a reader ends with {read}: {reader.words}")
        if not whole and not isinstance(reader, Web):  # what is written to a socket counts
            lacking += 1
    if wrote == Status.OK:
        told = RECEIPT.search(writer.words)
        trial.must(told is not None, f"no receipt: {writer.words}")
        size, served, early = (int(number or 0) for number in told.groups()) if told else (0, 0, 0)
        right = (size, served) == (len(data), len(readers)) and early >= lacking
        trial.must(right, f"{len(data)} bytes, {lacking} lack some: {writer.words}")
    else:
        trial.must(wrote in FATES, f"a writer ends with {wrote}: {writer.words}")
    ends = [wrote, *[await reader.wait() for reader in readers]]
    if any(ends) or lacking:
        trial.must(trial.touched, f"{ends} and nothing has happened: {writer.words}")
        raise ExcusedError
    trial.tally.count("transfers whole")


async def resumed(trial: Trial) -> None:
    """A file whose sender and receiver lose their connections, and go on with it."""
    data = trial.draw.randbytes(trial.draw.randint(100 * KIB, 3 * MIB))
    got = bytearray()
    began, ends = asyncio.Event(), asyncio.Event()
    both = [
        asyncio.create_task(_read_on(trial, got, began, ends)),
        asyncio.create_task(_write_on(trial, data, began, ends)),
    ]
    try:
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        for one in done:
            one.result()
    finally:
        for one in both:
            one.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        trial.check(check_prefix, data, got)
    trial.check(check_whole, data, got)
    trial.tally.count("files resumed and whole")


async def _read_on(trial: Trial, got: bytearray, began: asyncio.Event, ends: asyncio.Event) -> None:
    """Read until the stream has ended, however often the connection is lost."""
    stream = ""
    cuts = trial.draw.choice((0, 0, 1, 2))
    while True:
        place = f"--from {len(got)}" + (f" --stream {stream}" if stream else "")
        client = await _connect(trial, f"sub --hold {HOLD} {place} {trial.topic}")
        if await trial.wait_for(client, partial(_has_bytes, client)):
            began.set()
        cut = cuts > 0 and not ends.is_set()  # who has the end has confirmed all
        if cut:
            cuts -= 1
            client.kill()
            trial.tally.count("connections cut to resume")
        status = await client.wait()
        got += client.received
        if found := STREAM.search(client.words):
            stream = found[1]
        trial.must(bool(stream) or not got, f"no word of which stream it is: {client.words}")
        if cut or status == Status.NO_CONNECTION:
            await asyncio.sleep(REST_SECONDS)
            continue
        if status != Status.OK:
            trial.must(status in FATES, f"a reader ends with {status}: {client.words}")
            trial.must(trial.touched, f"{status} and nothing has happened: {client.words}")
            raise ExcusedError
        return


def _has_bytes(client: Client) -> bool:
    return bool(client.received)


async def _write_on(trial: Trial, data: bytes, began: asyncio.Event, ends: asyncio.Event) -> None:
    """Send all of it, however often the connection is lost."""
    at = 0
    place = "-m 1"
    cuts = trial.draw.choice((0, 0, 1, 2))
    piece = max(KIB, len(data) // 20)
    while True:
        client = await _connect(trial, f"pub --keep 8MiB --hold {HOLD} {place} {trial.topic}")
        with contextlib.suppress(*CLOSED):
            for start in range(at, len(data), piece):
                await client.send(data[start : start + piece])
                await asyncio.sleep(0.02)
                if cuts and began.is_set() and trial.draw.random() < 0.2:
                    cuts -= 1
                    client.kill()
                    trial.tally.count("connections cut to resume")
                    break
            else:
                ends.set()
                client.end_input()
        status = await client.wait()
        if status == Status.OK:
            return
        if status not in {Status.NO_CONNECTION, -9}:
            trial.must(status in FATES, f"a writer ends with {status}: {client.words}")
            trial.must(trial.touched, f"{status} and nothing has happened: {client.words}")
            raise ExcusedError
        status, text = await _ask_offset(trial)
        if status != Status.OK:
            trial.must(trial.touched, f"no offset, with {status}, and nothing has happened: {text}")
            raise ExcusedError
        at = int(text)
        place = f"--at {at}"


async def _ask_offset(trial: Trial) -> tuple[int, str]:
    while True:
        with contextlib.suppress(*CLOSED):
            status, text = await trial.siege.ask("alice", f"offset {trial.topic}")
            if status not in {NO_STATUS, Status.SHUTDOWN}:
                return status, text
        await asyncio.sleep(REST_SECONDS)


async def _connect(trial: Trial, command: str) -> Client:
    """Try until there is a connection: a machine may be away."""
    while True:
        try:
            return await trial.client(command)
        except CLOSED:
            trial.must(trial.touched, "no connection, and nothing has happened")
            await asyncio.sleep(REST_SECONDS)


async def hooked(trial: Trial) -> None:
    """Deliveries to a hook come once each to who reads its topic."""
    status, text = await trial.siege.ask("alice", f"hooks add {trial.topic} --kind generic")
    if status != Status.OK:
        trial.must(trial.touched, f"no hook: {status}")
        raise ExcusedError
    url, secret = text.split()
    path = url[url.index("/hook/") + 1 :]
    headers = {"Authorization": f"Bearer {secret}"}

    async def post(number: int) -> None:
        address = trial.siege.url(trial.draw, path)
        body = b"%d\n" % number
        async with trial.siege.web.post(address, data=body, headers=headers) as answer:
            trial.must(answer.status == 202 or trial.touched, f"a delivery: {answer.status}")

    def read() -> list[int]:
        return list(map(int, reader.received.rpartition(b"\n")[0].split()))

    reader = await trial.client(f"sub -k {trial.topic}")
    await _deliver(trial, reader, post, read)
    reader.kill()
    with contextlib.suppress(*CLOSED):
        await trial.siege.ask("alice", f"hooks rm {path.split('/')[1]}")
    trial.tally.count("hooks")


async def logged(trial: Trial) -> None:
    """Log lines that a service ships come once each to their user."""
    headers = {"Authorization": f"Bearer {trial.siege.shipping}", "Content-Type": NDJSON}

    async def post(number: int) -> None:
        line = {
            "level": "INFO",
            "msg": f"{trial.topic} {number}",
            "service": "web",
            "user": "alice",
        }
        address = trial.siege.url(trial.draw, "api/logs")
        body = json.dumps(line).encode() + b"\n"
        async with trial.siege.web.post(address, data=body, headers=headers) as answer:
            trial.must(answer.status < 300 or trial.touched, f"a batch: {answer.status}")

    def read() -> list[int]:
        words = re.findall(rb'"%s (\d+)"' % trial.topic.encode(), bytes(follower.received))
        return list(map(int, words))

    follower = await trial.client("logs -n 0 --service web")
    await _deliver(trial, follower, post, read)
    follower.kill()
    trial.tally.count("followed logs")


async def _deliver(
    trial: Trial,
    reader: Client,
    post: Callable[[int], Awaitable[None]],
    read: Callable[[], list[int]],
) -> None:
    """Post until somebody reads, and then some more: of those none is missing, and none doubled."""
    number = 0
    try:
        while not read():
            await post(number := number + 1)
            await asyncio.sleep(REST_SECONDS)
            if reader.ended:
                trial.must(trial.touched, f"it has ended: {reader.words}")
                raise ExcusedError
        wanted = list(range(number + 1, number + 1 + DELIVERIES))
        for one in wanted:
            await post(one)
        complete = await trial.wait_for(reader, lambda: set(wanted) <= set(read()))
        trial.must(complete or trial.touched, f"{wanted} posted, {read()} read: {reader.words}")
    except (aiohttp.ClientError, *CLOSED) as error:
        trial.must(trial.touched, f"{error!r} and nothing has happened")
    doubled = [one for one, times in Counter(read()).items() if times > 1]
    trial.must(not doubled, f"{doubled} came more than once")


async def talking(trial: Trial) -> None:
    """What is said in a room is heard there by all others, in order."""
    users = ["alice", "bob"]
    topic = f"public/{trial.topic}"
    people = [await trial.client(f"chat --json {topic}", trial.wish(user)) for user in users]
    lines = [f"line {number}" for number in range(1, trial.draw.randint(2, 8))]

    def heard(listener: Client, user: str) -> list[str]:
        found = []
        for line in listener.received.decode().split("\n")[:-1]:
            event = json.loads(line)
            if event.get("user") == user and event["type"] == "message":
                found.append(event["text"])
        return found

    def has_heard(listener: Client, user: str, last: str) -> bool:
        return heard(listener, user)[-1:] == [last]

    await trial.wait_for(people[0], lambda: b'"bob"' in people[0].received)  # who came later
    for line in lines:
        for person, user in zip(people, users, strict=True):
            await person.send(f"{line} of {user}\n".encode())
    for person, user in zip(people, reversed(users), strict=True):
        wanted = [f"{line} of {user}" for line in lines]
        complete = await trial.wait_for(person, partial(has_heard, person, user, wanted[-1]))
        said = heard(person, user)
        trial.must(complete or trial.touched, f"{len(said)} of {len(wanted)} lines of {user}")
        trial.must(said == [line for line in wanted if line in said], f"{said} of {user}")
    for person in people:
        person.end_input()
    for person in people:
        await trial.expect(person, Status.OK)
    trial.tally.count("rooms")


Try = Callable[[Trial], Awaitable[None]]

TRIALS: Final[tuple[tuple[Try, int], ...]] = (
    (transfer, 90),
    (resumed, 25),
    (hooked, 8),
    (logged, 8),
    (talking, 8),
)
"""What is tried, and how often beside the scenes."""
