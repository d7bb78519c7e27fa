"""What clients do in a soak: each scene has a topic of its own, its clients, and what must hold."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import asyncssh

from loadtest.workspace import HOST, MIB
from tests.e2e.payloads import alphabets
from tests.e2e.server import Status

from .checks import (
    BLOCK,
    check_dealt,
    check_dropped,
    check_part,
    check_prefix,
    check_suffix,
    check_whole,
)
from .clients import CLOSED, Client, Library, OpenSSH, connect, reset
from .scene import KIB, OPENSSH_SHARE, Scene, Writer
from .watch import STALL_SECONDS

SMALL_WINDOW: Final = 1 << 16
"""Bytes that a reader that stands still takes: the rest is the server's to keep or to drop."""

# -- streams --------------------------------------------------------------------------------------


async def stream(scene: Scene) -> None:
    """Readers from the start, some slow; others come late, leave or die; the rest get it all."""
    draw = scene.draw
    status = draw.choice((0, 0, 0, 0, 7, 255))
    stay = [await scene.client(f"sub {scene.topic}") for _ in range(draw.randint(1, 4))]
    go = [await scene.client(f"sub {scene.topic}") for _ in range(draw.choice((0, 0, 1, 2)))]
    count = len(stay) + len(go)
    flags = f"-m {count}" + (f" -x {status}" if status else "")
    writer = Writer(scene, await scene.client(f"pub {flags} {scene.topic}"))
    if draw.random() < 0.3:
        stay[0].piece, stay[0].pause = 16 * KIB, 0.02
    await writer.send(scene.size())
    for reader in (*stay, *go):  # all are there, so that none who comes now is taken for one
        await reader.wait_received()
    late = []
    if draw.random() < 0.4:
        late = [await scene.client(f"sub {scene.topic}") for _ in range(draw.randint(1, 2))]
        await writer.drip(lambda: all(reader.received for reader in late))
        scene.tally.count("joins in mid-stream", len(late))
    for reader in go:
        scene.depart(reader)
    await writer.send(scene.size(MIB))
    await writer.finish()
    for reader in stay:
        await scene.expect(reader, status)
        scene.check(check_whole, writer.sent, reader.received)
    for reader in late:
        await scene.expect(reader, status)
        scene.check(check_suffix, writer.sent, reader.received)
    for reader in go:
        await reader.wait()
        scene.check(check_prefix, writer.sent, reader.received)


async def rekeyed(scene: Scene) -> None:
    """Some MiB with a key exchange for each, on both sides."""
    wishes = [replace(scene.wish(), rekey=True) for _ in range(3)]
    readers = [await scene.client(f"sub {scene.topic}", wish) for wish in wishes[1:]]
    writer = Writer(scene, await scene.client(f"pub -m 2 {scene.topic}", wishes[0], library=False))
    await writer.send(scene.draw.randint(4, 10) * MIB)
    await writer.finish()
    for reader in readers:
        await scene.expect(reader, Status.OK)
        scene.check(check_whole, writer.sent, reader.received)


async def torn(scene: Scene) -> None:
    """The publisher dies in mid-stream: its readers have what came, and know that it is torn."""
    readers = [await scene.client(f"sub {scene.topic}") for _ in range(scene.draw.randint(1, 3))]
    writer = Writer(scene, await scene.client(f"pub -m {len(readers)} {scene.topic}"))
    await writer.send(scene.size())
    for reader in readers:
        await reader.wait_received()
    writer.client.kill()
    scene.tally.count("kills" if isinstance(writer.client, OpenSSH) else "TCP resets")
    for reader in readers:
        await scene.expect(reader, Status.BROKEN)
        scene.check(check_prefix, writer.sent, reader.received)


async def _beside_slow(scene: Scene, flag: str, size: int) -> tuple[Writer, Client, Client]:
    """A stream to a reader that keeps up and one that reads nothing."""
    fast = await scene.client(f"sub {scene.topic}")
    wish = scene.wish(window=SMALL_WINDOW)
    slow = await scene.client(f"sub -s {flag} {scene.topic}", wish, library=True)
    slow.hold()
    publisher = await scene.client(f"pub -m 2 {scene.topic}", library=True)
    writer = Writer(scene, publisher, piece=scene.draw.choice((1, 3, 8, 31)) * BLOCK)
    await writer.send(size)
    return writer, fast, slow


async def dropping(scene: Scene) -> None:
    """A reader that asked for it misses whole chunks, and knows how many bytes."""
    size = scene.draw.randint(1, 3) * MIB
    writer, fast, slow = await _beside_slow(scene, "drop", size)
    await fast.wait_received(len(writer.sent) // 2)
    slow.go_on()
    await writer.finish()
    await scene.expect(fast, Status.OK)
    scene.check(check_whole, writer.sent, fast.received)
    status = await scene.expect(slow, Status.OK, Status.TIMEOUT)
    told = re.search(r"dropped (\d+) byte", slow.words)
    dropped = int(told[1]) if told and status else 0
    scene.tally.count("bytes dropped at a reader's wish", dropped)
    scene.check(lambda sent, got: check_dropped(sent, got, dropped), writer.sent, slow.received)


async def disconnecting(scene: Scene) -> None:
    """A reader that asked for it is cut off when it falls behind; the other gets all."""
    writer, fast, slow = await _beside_slow(scene, "disconnect", 2 * MIB)
    await writer.finish()
    await scene.expect(fast, Status.OK)
    scene.check(check_whole, writer.sent, fast.received)
    await scene.expect(slow, Status.BROKEN)
    scene.check(check_prefix, writer.sent, slow.received)
    scene.tally.count("slow readers cut off")


async def stalling(scene: Scene) -> None:
    """A reader that takes nothing while another waits is cut off; the other gets all."""
    writer, fast, slow = await _beside_slow(scene, "block", 2 * MIB)
    await writer.finish()
    await scene.expect(fast, Status.OK)
    scene.check(check_whole, writer.sent, fast.received)
    await scene.expect(slow, Status.BROKEN)
    scene.check(check_prefix, writer.sent, slow.received)
    scene.tally.count("stalled readers cut off")


async def dealt(scene: Scene) -> None:
    """Lines dealt out in turn: each to one reader, whole and in order."""
    draw = scene.draw
    readers = [await scene.client(f"sub {scene.topic}") for _ in range(draw.randint(1, 4))]
    flags = f"-d round_robin --frame line -m {len(readers)}"
    publisher = await scene.client(f"pub {flags} {scene.topic}")
    lines = [b"%d %s" % (at, b"x" * draw.randrange(200)) for at in range(draw.randint(1, 5000))]
    content = b"".join(line + b"\n" for line in lines)
    for start in range(0, len(content), 50_000):
        await publisher.send(content[start : start + 50_000])
    publisher.end_input()
    await scene.expect(publisher, Status.OK)
    for reader in readers:
        await scene.expect(reader, Status.OK)
    hands = [reader.received.splitlines() for reader in readers]
    scene.tally.count("bytes published", len(content))
    scene.check(
        lambda _sent, _got: check_dealt(lines, [[bytes(line) for line in hand] for hand in hands]),
        content,
        b"".join(reader.received for reader in readers),
    )


async def staying(scene: Scene) -> None:
    """Readers that stay, one of them on a pattern, hear publishers that come at the same time."""
    draw = scene.draw
    count = draw.randint(2, 3)
    base = f"{draw.choice(('public', 'alice'))}/{scene.topic}"
    everything = await scene.client(f"sub '{base}/*'")
    readers = [await scene.client(f"sub -k {base}/one") for _ in range(2)]
    voices = alphabets(count)
    texts = [voice.noise(scene.size(), draw.getrandbits(32)) for voice in voices]
    names = [f"{base}/{draw.choice(('one', 'one', 'two'))}" for _ in range(count)]

    async def publish(name: str, text: bytes) -> None:
        least = 3 if name.endswith("one") else 1
        publisher = await scene.client(f"pub -m {least} {name}")
        await publisher.send(text)
        publisher.end_input()
        await scene.expect(publisher, Status.OK)
        scene.tally.count("bytes published", len(text))

    await asyncio.gather(*map(publish, names, texts))
    for reader in (everything, *readers):
        heard = [
            at for at, name in enumerate(names) if reader is everything or name.endswith("one")
        ]
        await reader.wait_received(sum(len(texts[at]) for at in heard))
        for at in heard:
            scene.check(check_whole, texts[at], voices[at].pick(bytes(reader.received)))
        scene.depart(reader)
        await reader.wait()


async def chat(scene: Scene) -> None:
    """Members of a pipe hear each other, and not themselves."""
    draw = scene.draw
    voices = alphabets(draw.randint(2, 4))
    replay = draw.random() < 0.3
    members = [await scene.client(f"pipe {'-r ' if replay else ''}{scene.topic}") for _ in voices]
    for member in members:
        await member.wait_said("join with")
    texts = [voice.noise(scene.size(256 * KIB), draw.getrandbits(32)) for voice in voices]
    await asyncio.gather(*(m.send(text) for m, text in zip(members, texts, strict=True)))
    scene.tally.count("bytes published", sum(map(len, texts)))
    for place, member in enumerate(members):
        heard = [at for at in range(len(texts)) if replay or at != place]
        await member.wait_received(sum(len(texts[at]) for at in heard))
        for at in heard:
            scene.check(check_whole, texts[at], voices[at].pick(bytes(member.received)))
    if draw.random() < 0.5:
        scene.depart(members.pop())
    for member in members:
        member.end_input()
    for member in members:
        # One that still talks breaks the stream for the others when it vanishes.
        await scene.expect(member, Status.OK, Status.BROKEN)


async def shared(scene: Scene) -> None:
    """A publisher and its readers on one connection."""
    connection = await connect(scene.wish())
    try:
        readers = [
            scene.keep(await Library.start(scene.wish(), f"sub {scene.topic}", connection))
            for _ in range(3)
        ]
        command = f"pub -m 3 {scene.topic}"
        publisher = scene.keep(await Library.start(scene.wish(), command, connection))
        scene.tally.count("joins", 4)
        text = scene.draw.randbytes(scene.size(MIB))
        await publisher.send(text)
        publisher.end_input()
        for reader in readers:
            await reader.wait_received(len(text))
            scene.check(check_whole, text, reader.received)
        scene.tally.count("bytes published", len(text))
    finally:
        connection.close()
        await connection.wait_closed()


async def nobody(scene: Scene) -> None:
    """Publishers that find nobody: those that do not wait, wait a moment, or only say a word."""
    writer = await scene.client(f"pub -b=false {scene.topic}")
    await writer.send(scene.draw.randbytes(scene.size(64 * KIB)))
    writer.end_input()
    await scene.expect(writer, Status.OK)
    await scene.expect(await scene.client(f"pub -t 300ms {scene.topic}"), Status.TIMEOUT)
    reader = await scene.client(f"sub {scene.topic}")
    await scene.expect(await scene.client(f"pub -e {scene.topic}"), Status.OK)
    await scene.expect(reader, Status.OK)
    scene.check(check_whole, b"", reader.received)


# -- logins, rights, commands ---------------------------------------------------------------------

COMMANDS: Final = (
    ("ls", Status.OK),
    ("ls --json '**'", Status.OK),
    ("whoami", Status.OK),
    ("keys", Status.OK),
    ("grants", Status.OK),
    ("explain any/thing", Status.OK),
    ("version", Status.OK),
    ("help pub", Status.OK),
    ("pub --nonsense", Status.USAGE),
    ("sub a//b", Status.USAGE),
    ("dance", Status.USAGE),
    ("sub bob/private", Status.DENIED),
)


async def commands(scene: Scene) -> None:
    """Commands that answer, and such that are refused."""
    for command, status in scene.draw.sample(COMMANDS, 4):
        client = await scene.client(command)
        client.end_input()
        await scene.expect(client, status)
        scene.tally.count("commands")


async def granted(scene: Scene) -> None:
    """A right that is given and taken back: its reader ends with it."""
    name = f"alice/{scene.topic}"
    bob = scene.wish("bob")
    await scene.expect(await scene.client(f"sub {name}", bob), Status.DENIED)
    await scene.expect(await scene.client(f"grant {scene.topic} bob --read"), Status.OK)
    reader = await scene.client(f"sub {name}", bob)
    writer = Writer(scene, await scene.client(f"pub {scene.topic}"))
    await writer.send(scene.size(MIB))
    await reader.wait_received()
    await scene.expect(await scene.client(f"revoke {scene.topic} bob"), Status.OK)
    await scene.expect(reader, Status.DENIED)
    scene.check(check_prefix, writer.sent, reader.received)
    scene.tally.count("rights given and taken")


async def spare_key(scene: Scene) -> None:
    """A key that is added, logs in, and is removed: what it logged in ends."""
    path = scene.soak.new_key()
    key = asyncssh.read_private_key(str(path))
    adder = await scene.client("keys add")
    await adder.send(key.export_public_key())
    adder.end_input()
    await scene.expect(adder, Status.OK)
    reader = await scene.client(f"sub {scene.topic}", replace(scene.wish(), key=path))
    writer = Writer(scene, await scene.client(f"pub {scene.topic}"))
    await writer.send(scene.size(64 * KIB))
    await reader.wait_received()
    await scene.expect(await scene.client(f"keys rm {key.get_fingerprint()}"), Status.OK)
    await scene.expect(reader, Status.DENIED, Status.BROKEN)
    scene.check(check_prefix, writer.sent, reader.received)
    scene.tally.count("keys added and removed")


async def strangers(scene: Scene) -> None:
    """Logins that fail, and connections that never log in."""
    wish = replace(scene.wish(), key=scene.soak.keys["mallory"])
    if scene.draw.random() < OPENSSH_SHARE:
        await scene.expect(await scene.client("whoami", wish, library=False), 255)
    else:
        try:
            connection = await connect(wish)
        except asyncssh.PermissionDenied:
            pass
        else:
            connection.abort()
            scene.fail("wrong logins", "a key that is not alice's logged alice in")
    scene.tally.count("logins refused")
    for _ in range(scene.draw.randint(1, 4)):
        with socket.create_connection((HOST, scene.soak.port(scene.draw))) as end:
            end.sendall(scene.draw.choice((b"", b"SSH-2.0-x\r\n", b"GET / HTTP/1.0\r\n\r\n")))
            await asyncio.sleep(scene.draw.random() / 4)
        scene.tally.count("connections without a login")
    with contextlib.suppress(*CLOSED):
        connection = await connect(scene.wish())
        reset(connection)
        scene.tally.count("TCP resets")


async def newcomer(scene: Scene) -> None:
    """A user who signs up, reads, and is removed in mid-stream."""
    user = scene.topic
    wish = replace(scene.wish(), user=user, key=scene.soak.new_key())
    reader = await scene.client(f"sub -k -p {user}", wish)
    writer = Writer(scene, await scene.client(f"pub -p {user}"))
    await writer.drip(lambda: bool(reader.received))
    await scene.soak.manage("user", "rm", user)
    await scene.expect(reader, Status.DENIED, Status.BROKEN)
    scene.check(check_part, writer.sent, reader.received)
    writer.client.end_input()
    scene.tally.count("users added and removed")


Play = Callable[[Scene], Awaitable[None]]

PLAYS: Final[tuple[tuple[Play, int], ...]] = (
    (stream, 40),
    (torn, 8),
    (rekeyed, 4),
    (dropping, 6),
    (disconnecting, 4),
    (stalling, 2),
    (dealt, 8),
    (staying, 8),
    (chat, 8),
    (shared, 4),
    (nobody, 4),
    (commands, 8),
    (granted, 4),
    (spare_key, 4),
    (strangers, 6),
    (newcomer, 1),
)
"""What is played, and how often beside the others."""

LONGEST_SECONDS: Final = 60.0 + STALL_SECONDS
"""A scene that takes longer hangs."""
