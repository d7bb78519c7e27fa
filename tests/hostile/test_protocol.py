"""Breaches of the protocol: each ends its own connection, says why, and costs nobody else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_DEBUG,
    MSG_KEXINIT,
    MSG_NEWKEYS,
    MSG_SERVICE_REQUEST,
    MSG_UNIMPLEMENTED,
    MSG_USERAUTH_SUCCESS,
)
from asyncssh.packet import Boolean, String, UInt32

from tests.e2e.payloads import MIB
from tests.e2e.server import Status

from . import attacks
from .ciphers import LANE, PLAIN, padded
from .peer import (
    MAX_PACKET,
    MAX_WINDOW,
    WINDOW,
    Peer,
    global_request,
    ignore,
    message,
    open_channel,
)
from .transport import MSG_KEX_ECDH_INIT, CutOffError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ciphers import Suite
    from .peer import Channel
    from .scene import Scene

pytestmark = pytest.mark.hostile

CHEAP = 4 * MIB
"""What a breach may cost in memory: no more than the connection that it comes on."""

SESSION = open_channel("session", 0, WINDOW, MAX_PACKET)
EXEC = message(98, UInt32(0), String("exec"), Boolean(True), String("whoami"))


# -- before the login -----------------------------------------------------------------------------


def frame(length: int, body: bytes = b"") -> bytes:
    """A frame in the clear that says it is so long."""
    return length.to_bytes(4, "big") + body


BEFORE_KEYS = {
    "no SSH at all": b"GET / HTTP/1.1\r\nHost: pipe\r\n\r\n",
    "SSH 1": b"SSH-1.5-old\r\n",
    "version not text": b"SSH-2.0-\xff\xfe\r\n" + frame(12, bytes(12)),
    "endless version": b"SSH-2.0-" + b"x" * 100_000,
    "endless line": b"x" * 100_000,
    "length 0": b"SSH-2.0-x\r\n" + frame(0, bytes(16)),
    "length 1": b"SSH-2.0-x\r\n" + frame(1, bytes(16)),
    "length 2^32-1": b"SSH-2.0-x\r\n" + frame(MAX_WINDOW, bytes(64)),
    "length 2^31": b"SSH-2.0-x\r\n" + frame(1 << 31, bytes(64)),
    "no payload": b"SSH-2.0-x\r\n" + frame(12, bytes((11,)) + bytes(11)),
    "padding longer than the packet": b"SSH-2.0-x\r\n" + frame(12, b"\xff" + bytes(11)),
    "truncated KEXINIT": b"SSH-2.0-x\r\n" + Peer.frame_clear(bytes((MSG_KEXINIT,)) + bytes(10)),
    "list longer than the packet": b"SSH-2.0-x\r\n"
    + Peer.frame_clear(bytes((MSG_KEXINIT,)) + bytes(16) + UInt32(MAX_WINDOW)),
    "KEXINIT that lists nothing": b"SSH-2.0-x\r\n"
    + Peer.frame_clear(bytes((MSG_KEXINIT,)) + bytes(16) + bytes(40) + bytes(5)),
    "NEWKEYS at once": b"SSH-2.0-x\r\n" + Peer.frame_clear(bytes((MSG_NEWKEYS,))),
    "login before keys": b"SSH-2.0-x\r\n"
    + Peer.frame_clear(message(MSG_SERVICE_REQUEST, String("ssh-userauth"))),
    "success said by the client": b"SSH-2.0-x\r\n"
    + Peer.frame_clear(message(MSG_USERAUTH_SUCCESS)),
    "channel before keys": b"SSH-2.0-x\r\n" + Peer.frame_clear(SESSION),
    "random bytes": b"SSH-2.0-x\r\n" + os.urandom(4096),
}
"""What a connection may begin with instead of SSH, after which there is nothing to wait for."""


@pytest.mark.parametrize("data", BEFORE_KEYS.values(), ids=BEFORE_KEYS)
def test_bad_beginning_is_the_end(scene: Scene, data: bytes) -> None:
    """A connection that does not begin as SSH does is closed at once, without a login."""
    with scene.attack(growth=CHEAP):
        stranger = scene.stranger()
        with contextlib.suppress(ConnectionError):  # it may hang up before it has all of it
            stranger.socket.sendall(data)
        assert stranger.read_to_end().startswith(b"SSH-2.0-")


def test_compression_is_not_offered(scene: Scene, suite: Suite) -> None:
    """Who wants zlib gets no connection, so there is no bomb to unpack."""
    with scene.attack(growth=CHEAP):
        for name in (b"zlib", b"zlib@openssh.com"):
            stranger = scene.stranger(suite=suite)
            stranger.compression = name
            with pytest.raises(CutOffError) as caught:
                stranger.connect()
            assert caught.value.code == asyncssh.DISC_KEY_EXCHANGE_FAILED


@pytest.mark.parametrize("place", ["before KEXINIT", "before NEWKEYS"])
def test_strict_key_exchange_is_kept(scene: Scene, suite: Suite, place: str) -> None:
    """With the strict marker nothing may be slipped in before the keys (CVE-2023-48795)."""
    with scene.attack(growth=CHEAP):
        stranger = scene.stranger(suite=suite)
        stranger.strict = True
        stranger.exchange_versions()
        if place == "before KEXINIT":
            stranger.send(ignore(b"x"))
            stranger.begin_kex()
        else:
            stranger.begin_kex()
            stranger.send(ignore(b"x"))
        assert stranger.wait_cut().code == asyncssh.DISC_PROTOCOL_ERROR


BEFORE_LOGIN = {
    "channel open": [SESSION],
    "channel open and exec": [SESSION, EXEC],
    "exec": [EXEC],
    "data": [message(MSG_CHANNEL_DATA, UInt32(0), String("x"))],
    "global request": [global_request("tcpip-forward", String("") + UInt32(0))],
    "success said by the client": [message(MSG_USERAUTH_SUCCESS)],
}
"""What only somebody who has logged in may send."""


@pytest.mark.parametrize("messages", BEFORE_LOGIN.values(), ids=BEFORE_LOGIN)
def test_nothing_is_served_before_the_login(
    scene: Scene, suite: Suite, messages: list[bytes]
) -> None:
    """Channel messages of somebody who has not logged in end the connection (CVE-2025-32433)."""
    with scene.attack(growth=CHEAP):
        stranger = scene.stranger(suite=suite)
        stranger.connect()
        cut = stranger.provoke(*messages)
        assert cut.code == asyncssh.DISC_PROTOCOL_ERROR
        assert "whoami" not in cut.reason


def test_exchange_that_has_failed_goes_no_further(scene: Scene, suite: Suite) -> None:
    """Keys that come along with a KEXINIT that cannot do: the client is cut, at its own fault."""
    with scene.attack(growth=CHEAP):
        for _ in range(20):
            stranger = scene.stranger(suite=suite)
            stranger.compression = b"zlib"
            stranger.exchange_versions()
            keys = message(MSG_KEX_ECDH_INIT, String(b"\x09" + bytes(31)))
            stranger.send(stranger.kexinit(), keys)
            assert stranger.wait_cut().code == asyncssh.DISC_KEY_EXCHANGE_FAILED

    assert not scene.server.lines("connection failed")
    assert not scene.metrics().value("pipe_disconnects_total", reason="failed")


# -- after the login ------------------------------------------------------------------------------


def bad_frames(peer: Peer) -> Iterator[tuple[str, bytes]]:
    """Frames that no honest peer sends, by name."""
    good = padded(ignore(b"x" * 20), 16, 0)
    yield "bad tag", peer.frame(ignore())[:-1] + b"\0"
    yield "length 0", peer.frame_packet(good, length=0)
    yield "length 2^32-1", peer.frame_packet(good, length=MAX_WINDOW)
    yield "length 2^31", peer.frame_packet(good, length=1 << 31)
    yield "length that is no multiple", peer.frame_packet(good + b"\0" * 5)
    yield "padding longer than the packet", peer.frame_packet(b"\xff" + good[1:])
    yield "no payload", peer.frame_packet(bytes((15,)) + bytes(15))
    yield "random bytes", os.urandom(MAX_PACKET)
    yield "packet too long", peer.frame_packet(padded(ignore(bytes(300_000)), 16, 0))


BAD_FRAMES = (
    *("bad tag", "length 0", "length 2^32-1", "length 2^31", "length that is no multiple"),
    *("padding longer than the packet", "no payload", "random bytes", "packet too long"),
)


@pytest.mark.data_path
@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frame_is_the_end(scene: Scene, suite: Suite, name: str) -> None:
    """A frame that cannot be what it says ends the connection in mid-stream, and only that."""
    with scene.attack(growth=CHEAP):
        peer = scene.peer(suite=suite)
        peer.run("pub -b=false broken")
        with contextlib.suppress(CutOffError):  # it may be gone before the rest
            peer.send_bytes(dict(bad_frames(peer))[name])
            if name.startswith(("length", "random")):
                peer.send_bytes(bytes(MAX_PACKET))  # let it have what it may still wait for
        peer.wait_cut()


def channel_breaches(channel: Channel) -> dict[str, list[bytes]]:
    """What breaks the rules of channels, by name."""
    number = UInt32(channel.remote)
    return {
        "window overrun": [channel.packet(bytes(MAX_PACKET))] * (channel.window // MAX_PACKET + 1),
        "data for no channel": [message(MSG_CHANNEL_DATA, UInt32(77), String("x"))],
        "data after the end": [message(96, number), channel.packet(b"x")],
        "end of file twice": [message(96, number)] * 2,
        "close twice": [message(97, number)] * 2,
        "string longer than the packet": [message(MSG_CHANNEL_DATA, number, UInt32(MAX_WINDOW))],
        "data and more": [channel.packet(b"x") + b"more"],
        "truncated data": [message(MSG_CHANNEL_DATA, number)],
        "truncated adjust": [message(93, number, b"\0")],
        "truncated request": [message(98, number, String("exec"))],
        "confirmation nobody asked for": [
            message(MSG_CHANNEL_OPEN_CONFIRMATION, number, UInt32(0), UInt32(9), UInt32(9))
        ],
        "truncated open": [message(90, String("session"), UInt32(1))],
        "channel kind not text": [open_channel("\u00ff", 5, WINDOW, MAX_PACKET)],
        "request not text": [message(98, number, String(b"\xff\xfe"), Boolean(True))],
        "NEWKEYS out of turn": [message(MSG_NEWKEYS)],
        "answer nobody asked for": [message(81)],
    }


BREACHES = (
    *("window overrun", "data for no channel", "data after the end"),
    *("end of file twice", "close twice", "string longer than the packet", "data and more"),
    *(
        "truncated data",
        "truncated adjust",
        "truncated request",
    ),
    *("confirmation nobody asked for", "truncated open", "channel kind not text"),
    *("request not text", "NEWKEYS out of turn", "answer nobody asked for"),
)


@pytest.mark.data_path
@pytest.mark.parametrize("name", BREACHES)
def test_breach_of_a_channel_is_the_end(scene: Scene, suite: Suite, name: str) -> None:
    """What the rules of channels forbid ends the connection with a protocol error."""
    with scene.attack(growth=CHEAP):
        peer = scene.peer(suite=suite)
        channel = peer.run("pub breach")
        cut = peer.provoke(*channel_breaches(channel)[name])
        assert cut.code in (asyncssh.DISC_PROTOCOL_ERROR, 0), cut


@pytest.mark.data_path
def test_window_beyond_its_limit_does_no_harm(scene: Scene, suite: Suite) -> None:
    """A window that grows past 2^32-1 is the end of its connection, on either path."""
    with scene.attack(growth=CHEAP):
        peer = scene.peer(suite=suite)
        channel = peer.run("sub -k wide", window=MAX_WINDOW)
        cut = peer.provoke(channel.adjustment(MAX_WINDOW))
        assert cut.code == asyncssh.DISC_PROTOCOL_ERROR


@pytest.mark.data_path
def test_unknown_messages_are_said_to_be_unknown(scene: Scene, suite: Suite) -> None:
    """A kind of message that nobody knows is answered so (RFC 4253, section 11.4)."""
    with scene.attack(growth=CHEAP):
        peer = scene.peer(suite=suite)
        for kind in (191, 255, 10):
            peer.send(message(kind, b"what?"))
            assert peer.expect(MSG_UNIMPLEMENTED)[0] == MSG_UNIMPLEMENTED
        peer.send(message(MSG_DEBUG, Boolean(True), String("\x1b]52;c;x\x07"), String("")))
        assert peer.run("whoami").wait() == 0

    assert "\x1b" not in scene.server.log


def test_nothing_is_forwarded(scene: Scene, suite: Suite) -> None:
    """Every kind of forwarding, agent, X11, subsystem and tunnel is refused, and no socket made."""
    with scene.attack(growth=CHEAP, descriptors=2):
        assert attacks.ask_for_forwardings(scene.target(), suite) == []

    assert not Path("/tmp/hostile-socket").exists()  # noqa: S108


@pytest.mark.parametrize(
    ("term", "size", "granted"),
    [
        ("xterm", 80, True),
        ("xterm", MAX_WINDOW, True),
        ("x" * 30_000, 80, False),
        ("\x1b]0;owned\x07", 80, True),
        ("", 0, True),
    ],
)
def test_terminals_of_any_size(
    scene: Scene, suite: Suite, term: str, size: int, granted: bool
) -> None:
    """A terminal of 2^32-1 columns is as good as any other; a name of 30 KB is refused."""
    body = String(term) + UInt32(size) * 4 + String(b"")
    with scene.attack(growth=CHEAP):
        channel = scene.peer(suite=suite).open()
        assert channel.ask("pty-req", body) is granted
        changes = channel.request("window-change", UInt32(size) * 4, reply=False)
        channel.peer.flood([changes] * 1000)
        channel.execute("whoami")
        assert channel.wait() == 0


@pytest.mark.data_path
def test_signals_and_breaks_are_for_one_session(scene: Scene, suite: Suite) -> None:
    """A signal ends the session that it is for, no other; what is no signal ends nothing."""
    with scene.attack(growth=CHEAP):
        reader, writer, leaver = (
            scene.peer(suite=suite).run(f"{act} calm") for act in ("sub", "pub", "sub")
        )
        for name in ("USR1", "no such", "", "TERM" * 1000):
            for channel in (reader, writer):
                channel.peer.send(channel.request("signal", String(name), reply=False))
        assert not any(channel.ask("break", UInt32(500)) for channel in (reader, writer))
        leaver.peer.send(leaver.request("signal", String("TERM"), reply=False))
        assert leaver.wait() == Status.INTERRUPTED
        writer.send(b"all is well")
        writer.end()
        assert (reader.wait(), writer.wait(), reader.size) == (0, 0, 11)


COMMANDS = {
    "climbs": b"pub alice/../bob",
    "climbs, encoded": b"pub alice%2f../bob",
    "two slashes": b"pub alice//x",
    "slash at the end": b"pub x/",
    "slash at the beginning": b"pub /x",
    "300 bytes": b"pub " + b"/".join([b"x" * 49] * 6),
    "segment of 65": b"pub " + b"x" * 65,
    "nine segments": b"pub mallory" + b"/x" * 9,
    "NUL": b"pub x\0y",
    "not UTF-8": b"pub caf\xe9",
    "overlong UTF-8": b"pub \xc0\xaf",
    "surrogate": b"pub \xed\xa0\x80",
    "fullwidth": "pub alice\uff0fx".encode(),
    "Cyrillic": "pub \u0430lice/x".encode(),
    "open quote": b"pub 'x",
    "newline": b"pub x\ny",
    "nothing but quotes": b'pub ""',
    "star to publish": b"pub *",
    "200 KB": b"pub " + b"x" * 200_000,
    "200 KB of quotes": b"'" * 200_000,
    "200 KB of flags": b"pub" + b" -c" * 66_000 + b" /",
    "200 KB of stars": b"sub " + b"*/" * 100_000,
}
"""What must not become a topic."""


def is_text(command: bytes) -> bool:
    """Whether it is UTF-8."""
    try:
        command.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_name_that_is_none_is_refused(scene: Scene, suite: Suite, command: bytes) -> None:
    """Names outside the grammar make no topic: status 64 and one printable line that says why."""
    if scene.server.lane != "fast" and not is_text(command):
        pytest.skip("asyncssh itself refuses a command that is no text")
    before = scene.metrics().value("pipe_topics")
    with scene.attack(growth=CHEAP):
        channel = scene.peer(suite=suite).run(command)
        assert channel.wait() == Status.USAGE
        assert scene.metrics().value("pipe_topics") == before

    text = channel.stderr.decode()
    assert len(text.splitlines()) == 1
    assert text[:-1].isprintable()
    assert len(text) < 2000


@pytest.mark.data_path
def test_command_that_fits_no_packet_is_the_end(scene: Scene, suite: Suite) -> None:
    """A command of 300 KB is longer than any packet may be."""
    with scene.attack(growth=CHEAP):
        peer = scene.peer(suite=suite)
        channel = peer.open()
        cut = peer.provoke(channel.request("exec", String(b"x" * 300_000)))
        assert cut.code in (asyncssh.DISC_PROTOCOL_ERROR, 0)


def test_like_names_are_not_the_same(scene: Scene, suite: Suite) -> None:
    """`alice` is not `alice2`: what begins like an owner's name opens nothing of the owner's."""
    with scene.attack(descriptors=16):
        owner = scene.peer("alice", suite=suite).run("pub secret")
        for user in ("alice2", "alic", "alice-x"):
            for name in ("alice/secret", "alice/s*", "alice/**"):
                peer = scene.peer(user, suite=suite)
                status = peer.run(f"pub {name}" if "*" not in name else f"ls {name}").wait()
                assert status in (Status.DENIED, Status.OK)
                assert "secret" not in bytes(peer.channels[0].data).decode()
        assert owner.size == 0


def test_patterns_cost_no_more_than_their_length(scene: Scene, suite: Suite) -> None:
    """The most demanding pattern that the grammar allows matches as fast as any other."""
    pattern = "mallory/" + "/".join(["*a*a*a*a*a*b"] * 6) + "/**"
    name = "mallory/" + "/".join(["a" * 30] * 7)
    with scene.attack():
        peer = scene.peer(suite=suite)
        reader = peer.run(f"sub {pattern}")
        writer = scene.peer(suite=LANE if suite is PLAIN else PLAIN).run(f"pub -b=false {name}")
        writer.send(b"x")
        writer.end()
        assert writer.wait() in (0, Status.USAGE)
        assert reader.size == 0
