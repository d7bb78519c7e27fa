"""What hostile peers do: one function for each kind of misbehaviour, for tests and the benchmark.

Each takes a target, and the cipher by which the peer chooses the server's data path.  Most are
over within seconds and give back what there was to see; none sends without end.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from asyncssh.constants import (
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from asyncssh.packet import SSHPacket, String, UInt32

from .peer import (
    MAX_PACKET,
    MAX_WINDOW,
    WINDOW,
    Peer,
    Target,
    global_request,
    ignore,
    open_channel,
)
from .transport import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .ciphers import Suite
    from .peer import Channel
    from .transport import CutOffError

KIB: Final = 1 << 10
MIB: Final = 1 << 20

SHUT_SECONDS: Final = 1.5
"""When a window has stayed shut for so long, the server means it."""

HANDLED_SECONDS: Final = 60.0
"""Until the server has handled all that it has read of a flood, on however slow a machine."""

QUESTIONS: Final = 450_000
"""Requests whose answers are never read: 16 MB of answers at least, of which the kernel takes 6."""

SMALL_BUFFER: Final = 4096
"""Bytes for the kernel to hold for a peer that does not read: the rest stays with the server."""


@contextlib.contextmanager
def logged_in(target: Target, suite: Suite) -> Iterator[Peer]:
    """A peer that has logged in."""
    with Peer(target, suite=suite) as peer:
        peer.log_in()
        yield peer


def fill(channel: Channel, limit: int, patience: float = SHUT_SECONDS) -> int:
    """Publish until the server opens the window no more; how much it took, at most ``limit``."""
    block = bytes(MAX_PACKET)
    sent = 0
    while sent < limit:
        taken = channel.send(block, patience)
        sent += taken
        if taken < len(block):
            break
    return sent


def fill_all(channels: Sequence[Channel], limit: int, patience: float = SHUT_SECONDS) -> int:
    """The same for many publishers at once, each with ``limit`` bytes at the most."""
    sent = dict.fromkeys(channels, 0)
    by_socket = {channel.peer.socket: channel for channel in channels}
    ready = list(channels)
    while ready:
        for channel in ready:
            channel.peer.take()
            size = min(channel.window, limit - sent[channel])
            channel.peer.send(*[channel.packet(bytes(MAX_PACKET))] * (size // MAX_PACKET))
            channel.window -= size
            sent[channel] += size
        unfinished = [channel.peer.socket for channel in channels if sent[channel] < limit]
        if not unfinished:
            break
        ready = [by_socket[sock] for sock in readable(unfinished, patience)]
    return sum(sent.values())


def crowd(target: Target, suite: Suite, count: int = 100, size: int = 4 * MIB) -> int:
    """Many publishers at once, each as fast as it can to nobody; how many bytes were taken."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(logged_in(target, suite)) for _ in range(count)]
        writers = [peer.run(f"pub -b=false crowd-{n}") for n, peer in enumerate(peers)]
        return fill_all(writers, size)


def transfer(writer: Channel, readers: Sequence[Channel], data: bytes, patience: float) -> int:
    """Publish ``data`` while its readers read; how much went before all stood still too long."""
    channels = [writer, *readers]
    sockets = [channel.peer.socket for channel in channels]
    sent = 0
    while sent < len(data):
        size = min(writer.window, MAX_PACKET, len(data) - sent)
        if size:
            writer.peer.send(writer.packet(data[sent : sent + size]))
            writer.window -= size
            sent += size
        elif not readable(sockets, patience):
            break
        for channel in channels:
            channel.peer.take()
    return sent


# -- floods ---------------------------------------------------------------------------------------


def flood_data(target: Target, suite: Suite, count: int = 200_000) -> int | None:
    """Publish byte by byte, in packets of their own; the publisher's exit status."""
    with logged_in(target, suite) as peer:
        channel = peer.run("pub -b=false bytes")
        peer.flood(itertools.repeat(channel.packet(b"x"), count))
        channel.end()
        return channel.wait()


def flood_ignore(target: Target, suite: Suite, count: int = 200_000) -> int | None:
    """Send messages that mean nothing, then run a command; its exit status."""
    with logged_in(target, suite) as peer:
        peer.flood(itertools.repeat(ignore(), count))
        return peer.run("whoami").wait()


def flood_requests(target: Target, suite: Suite, count: int = QUESTIONS) -> tuple[int, CutOffError]:
    """Ask for answers and read none; how many requests the server took, and how it ended.

    With the kernel's usual buffers: in a small one so many tiny segments take more room than they
    were promised, what comes then is dropped with the acknowledgement in it, and TCP stands still.
    """
    with logged_in(target, suite) as peer:
        question = global_request("no-such-request@example.org")
        taken = peer.flood(itertools.repeat(question, count))
        return taken, peer.wait_cut(HANDLED_SECONDS)


def flood_channel_requests(
    target: Target, suite: Suite, count: int = QUESTIONS
) -> tuple[int, CutOffError]:
    """The same with requests about a channel."""
    with logged_in(target, suite) as peer:
        channel = peer.run("sub -k questions")
        question = channel.request("no-such-request@example.org")
        taken = peer.flood(itertools.repeat(question, count))
        return taken, peer.wait_cut(HANDLED_SECONDS)


def flood_opens(target: Target, suite: Suite, count: int = 10_000) -> tuple[int, int]:
    """Open channels and close none; how many were opened, how many refused."""
    with logged_in(target, suite) as peer:
        opened = refused = 0
        pending = iter(range(count))
        while numbers := list(itertools.islice(pending, 500)):
            peer.send(*[open_channel("session", number, WINDOW, MAX_PACKET) for number in numbers])
            for _ in numbers:
                kind = peer.expect(MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE)[0]
                opened += kind == MSG_CHANNEL_OPEN_CONFIRMATION
                refused += kind == MSG_CHANNEL_OPEN_FAILURE
        return opened, refused


def flood_environment(target: Target, suite: Suite, count: int = 300) -> int | None:
    """Set environment variables of 30 KB each, then run a command; its exit status."""
    with logged_in(target, suite) as peer:
        channel = peer.open()
        value = String(b"v" * 30_000)
        peer.flood(
            channel.request("env", String(f"NAME{number}") + value, reply=False)
            for number in range(count)
        )
        channel.execute("whoami")
        return channel.wait()


def flood_topics(target: Target, suite: Suite, count: int = 500) -> set[int | None]:
    """Go through topics, one after the other; the exit statuses that came."""
    with logged_in(target, suite) as peer:
        statuses = set()
        for number in range(count):
            channel = peer.run(f"pub -b=false {target.user}/{number}/{'x' * 60}")
            channel.end()
            statuses.add(channel.wait())
        return statuses


def flood_lists(
    target: Target, suite: Suite, topics: int = 500, count: int = 60
) -> list[tuple[int | None, int]]:
    """Make many topics, then ask for the list of them, ten at a time; status and bytes of each."""
    with contextlib.ExitStack() as stack:
        for first in range(0, topics, 10):
            holder = stack.enter_context(logged_in(target, suite))
            for number in range(first, first + 10):
                holder.run(f"pub -c {number}")  # waits, so that the list has names to tell
        answers = []
        for _ in range(count // 10):
            with logged_in(target, suite) as peer:
                channels = [peer.run("ls") for _ in range(10)]
                answers += [(channel.wait(), channel.size) for channel in channels]
        return answers


def topics_for_many_patterns(
    target: Target, suite: Suite, readers: int = 100, topics: int = 50
) -> set[int]:
    """Open and close topics that many readers' patterns take in; how many bytes readers got."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(logged_in(target, suite)) for _ in range(readers // 10)]
        channels = [peer.run("sub '**'") for peer in peers for _ in range(10)]
        writing = stack.enter_context(logged_in(target, suite))
        for number in range(topics):
            writer = writing.run(f"pub -b=false -c {number}")
            writer.send(b"p")
            writer.end()
            writer.wait()
        for channel in channels:
            channel.read(topics)
        return {channel.size for channel in channels}


def patterns_hang_up(target: Target, suite: Suite, topics: int = 200, times: int = 3) -> int:
    """A hundred readers of all topics come and hang up at once, again and again; how many came."""
    came = 0
    with contextlib.ExitStack() as stack:
        for first in range(0, topics, 10):
            holder = stack.enter_context(logged_in(target, suite))
            for number in range(first, first + 10):
                holder.run(f"pub -c {number}")
        for _ in range(times):
            with contextlib.ExitStack() as crowd_of_readers:
                peers = [
                    crowd_of_readers.enter_context(logged_in(target, suite)) for _ in range(10)
                ]
                came += len([peer.run("sub '**'") for peer in peers for _ in range(10)])
    return came


def rekey_with_long_lists(target: Target, suite: Suite, count: int = 100) -> int | None:
    """Exchange keys by messages of 250 KB, eight lists of 31 KB; then a command's exit status."""
    with logged_in(target, suite) as peer:
        peer.unknown_names = [b"%064d" % number for number in range(480)]
        for _ in range(count):
            peer.rekey()
        return peer.run("whoami").wait()


def flood_key_exchanges(target: Target, suite: Suite, count: int = 200) -> None:
    """Have the server exchange keys with strangers, who then leave."""
    for _ in range(count):
        with Peer(target, suite=suite) as peer:
            peer.connect()


def rekey_without_end(target: Target, suite: Suite, count: int = 300) -> int | None:
    """Exchange keys again and again on one connection, then run a command; its exit status."""
    with logged_in(target, suite) as peer:
        for _ in range(count):
            peer.rekey()
        return peer.run("whoami").wait()


def ask_for_proofs(target: Target, suite: Suite, count: int = 20) -> set[int]:
    """Ask the server to sign with its host key, 4,000 times in a message; kinds of the answers."""
    with logged_in(target, suite) as peer:
        question = global_request("hostkeys-prove-00@openssh.com", String(peer.host_key) * 4000)
        answers = set()
        for _ in range(count):
            peer.send(question)
            answers.add(peer.expect(MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE)[0])
        assert peer.run("whoami").wait() == 0
        return answers


# -- readers --------------------------------------------------------------------------------------


def stall(target: Target, suite: Suite, topic: str, flags: str = "") -> Peer:
    """A subscriber with the largest window there is, that reads nothing from now on."""
    peer = Peer(target, suite=suite, receive_buffer=SMALL_BUFFER)
    try:
        peer.log_in()
        peer.run(f"sub {flags} {topic}", window=MAX_WINDOW)
    except BaseException:
        peer.drop()
        raise
    return peer


def publish_to_stalled(target: Target, suite: Suite, limit: int = 64 * MIB) -> int:
    """Publish to such a subscriber; how many bytes the server took before it stopped."""
    with stall(target, suite, "stalled"), logged_in(target, suite) as writer:
        return fill(writer.run("pub stalled"), limit)


def silent_rekey(target: Target, suite: Suite, limit: int = 64 * MIB) -> int:
    """Publish to a subscriber that began a key exchange and does not go on; what was taken."""
    with logged_in(target, suite) as reader, logged_in(target, suite) as writer:
        reader.run("sub silent", window=MAX_WINDOW)
        reader.answers_rekeys = False
        reader.begin_kex()
        return fill(writer.run("pub silent"), limit)


class Paused(NamedTuple):
    """What became of a publisher that sent small packets while it was held back."""

    sent: int
    received: int
    seconds: float


def small_packets_into_a_pause(
    target: Target, suite: Suite, most: int = 200_000, size: int = 1
) -> Paused:
    """Fill a topic whose reader's window is shut, with small packets at last; then open it."""
    with logged_in(target, suite) as reading, logged_in(target, suite) as writing:
        reader = reading.run("sub small", window=KIB)
        reader.granted = MAX_WINDOW  # it does not open its window by itself
        writer = writing.run("pub small")
        sent = 0
        while sent <= MIB:  # more than the reader's buffer takes
            sent += fill(writer, 2 * MIB - 64 * KIB - sent, 0.5)
        while writer.window < size and writing.take(0.5):
            pass
        count = min(writer.window // size, most)
        sent += size * writing.flood(itertools.repeat(writer.packet(b"s" * size), count))
        writer.end()
        started = time.monotonic()
        reading.send(reader.adjustment(1 << 30))
        reader.wait()
        writer.wait()
        return Paused(sent, reader.size, time.monotonic() - started)


def small_packets_wanted(target: Target, suite: Suite, most: int, size: int = MIB) -> int:
    """A subscriber that takes ``most`` bytes a packet, all at once; how many bytes it got.

    Raises:
        ConnectionRefusedError: the server does not send such packets.
    """
    with logged_in(target, suite) as reading, logged_in(target, suite) as writing:
        reader = reading.run("sub crumbs", window=MAX_WINDOW, most=most)
        writer = writing.run("pub crumbs")
        fill(writer, size)
        writer.end()
        reader.wait()
        writer.wait()
        return reader.size


def one_byte_windows(target: Target, suite: Suite, size: int = 50_000) -> int:
    """A subscriber that opens its window byte by byte; how many bytes it got."""
    with logged_in(target, suite) as reading, logged_in(target, suite) as writing:
        reader = reading.run("sub slits", window=0)
        reader.granted = MAX_WINDOW
        writer = writing.run("pub slits")
        writer.send(bytes(size))
        writer.end()
        reading.flood(itertools.repeat(reader.adjustment(1), size))
        reader.read(size)
        reading.send(reader.adjustment(1 << 20))
        reader.wait()
        return reader.size


def crumbs_for_a_shut_window(target: Target, suite: Suite, count: int = 300_000) -> tuple[int, int]:
    """Publish byte by byte to a reader whose window is shut, then open it; sent and received."""
    with logged_in(target, suite) as reading, logged_in(target, suite) as writing:
        reader = reading.run("sub crumbs", window=0)
        reader.granted = MAX_WINDOW
        writer = writing.run("pub crumbs")
        sent = 0
        while sent < count and (writer.window or writing.take(SHUT_SECONDS)):
            size = min(writer.window, 4096)
            writing.flood(itertools.repeat(writer.packet(b"c"), size))
            writer.window -= size
            sent += size
            writing.take()
        reading.send(reader.adjustment(1 << 30))
        writer.end()
        reader.wait()
        return sent, reader.size


def small_messages_to_a_stalled_reader(target: Target, suite: Suite, count: int = 100_000) -> int:
    """Publish small messages, each by itself, to a reader that has the largest window and stalls.

    Returns:
        How many the server took.
    """
    with stall(target, suite, "murmur"), logged_in(target, suite) as writing:
        writer = writing.run("pub murmur")
        for number in range(count):
            if not writer.window and not writing.take(SHUT_SECONDS):
                return number
            if writer.send(b"m" * 8, SHUT_SECONDS) < 8:
                return number
        return count


def small_packets_for_many(target: Target, suite: Suite, readers: int = 100) -> int:
    """Publish byte by byte to many readers of one's own; how many bytes the last one got."""
    count = 2000
    with contextlib.ExitStack() as stack:
        channels = []
        for _ in range(readers // 10):
            peer = stack.enter_context(logged_in(target, suite))
            channels += [peer.run("sub fan", window=1 << 30) for _ in range(10)]
        for channel in channels:
            channel.granted = MAX_WINDOW
        writer = stack.enter_context(logged_in(target, suite)).run(f"pub -m {readers} fan")
        writer.peer.flood(itertools.repeat(writer.packet(b"f"), count))
        writer.end()
        for channel in channels:
            channel.wait()
        return min(channel.size for channel in channels)


# -- what is not offered --------------------------------------------------------------------------

CHANNELS: Final = {
    "direct-tcpip": String("127.0.0.1") + UInt32(22) + String("127.0.0.1") + UInt32(1024),
    "direct-streamlocal@openssh.com": String("/run/x") + String("") + UInt32(0),
    "tun@openssh.com": UInt32(1) + UInt32(MAX_WINDOW),
    "x11": String("127.0.0.1") + UInt32(1024),
    "auth-agent@openssh.com": b"",
    "forwarded-tcpip": String("127.0.0.1") + UInt32(0) + String("127.0.0.1") + UInt32(0),
    "no-such-channel": b"",
}
"""Kinds of channel that a client may not open, with what belongs to them."""

REQUESTS: Final = {
    "tcpip-forward": String("127.0.0.1") + UInt32(0),
    "streamlocal-forward@openssh.com": String("/tmp/hostile-socket"),  # noqa: S108 - is refused
    "hostkeys-prove-00@openssh.com": String(b""),
    "no-such-request": b"",
}
"""Requests about the connection that are refused."""

SESSION_REQUESTS: Final = {
    "subsystem": String("sftp"),
    "auth-agent-req@openssh.com": b"",
    "x11-req": b"\0" + String("MIT-MAGIC-COOKIE-1") + String("00" * 16) + UInt32(0),
    "no-such-request": b"",
}
"""Requests about a session that are refused."""


def ask_for_forwardings(target: Target, suite: Suite) -> list[str]:
    """Ask for all of these; the names of those that were granted."""
    granted = []
    with logged_in(target, suite) as peer:
        for name, body in CHANNELS.items():
            peer.send(open_channel(name, 99, WINDOW, MAX_PACKET, body))
            answer = peer.expect(MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE)
            if answer[0] == MSG_CHANNEL_OPEN_CONFIRMATION:
                granted.append(name)
        for name, body in REQUESTS.items():
            peer.send(global_request(name, body))
            if peer.expect(MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE)[0] == MSG_REQUEST_SUCCESS:
                granted.append(name)
        for name, body in SESSION_REQUESTS.items():
            channel = peer.open()
            if channel.ask(name, body):
                granted.append(name)
            channel.close()
        assert peer.run("whoami").wait() == 0
    return granted


def refusal(payload: bytes) -> str:
    """The text of a CHANNEL_OPEN_FAILURE."""
    packet = SSHPacket(payload[9:])
    return packet.get_string().decode()


CASES: Final[dict[str, Callable[[Target, Suite], object]]] = {
    "2 one-byte DATA": flood_data,
    "2 IGNORE": flood_ignore,
    "1 window of 2^32, then silence": publish_to_stalled,
    "3 KEXINIT, then silence": silent_rekey,
    "4 small packets into a pause": small_packets_into_a_pause,
    "5 global requests, nothing read": flood_requests,
    "5 channel requests, nothing read": flood_channel_requests,
    "11 forwardings": ask_for_forwardings,
    "14 10,000 channel opens": flood_opens,
    "16 environment": flood_environment,
    "19 key exchanges": flood_key_exchanges,
    "19 rekeys": rekey_without_end,
    "23 topics": flood_topics,
    "lists of many topics": flood_lists,
    "proofs of the host key": ask_for_proofs,
    "topics for 100 patterns": topics_for_many_patterns,
    "100 patterns hang up": patterns_hang_up,
    "key exchanges with long lists": rekey_with_long_lists,
    "smallest packets": functools.partial(small_packets_wanted, most=1024),
    "crumbs for a shut window": crumbs_for_a_shut_window,
    "small messages to a stalled reader": small_messages_to_a_stalled_reader,
    "small packets for 100 readers": small_packets_for_many,
    "one byte a window": one_byte_windows,
    "100 publishers at once": crowd,
}
"""By the number in the list of cases, where it has one."""
