"""The lane's AES-GCM against asyncssh's: the same packets through both, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import GCMEncryption
from hypothesis import given
from hypothesis import strategies as st

from pipe.ssh.lane.cipher import FRAME_BYTES, LENGTH_BYTES, TAG_BYTES, Opener, Sealer

if TYPE_CHECKING:
    from collections.abc import Iterable

LAST = 2**64 - 1
"""The invocation counter's last value; 0 comes after it (RFC 5647, section 7.1)."""

packets = st.binary(min_size=1, max_size=4).map(lambda seed: (seed * 20_000)[: 16 * (seed[0] + 1)])
counters = st.sampled_from([0, 1, 2**32 - 1, 2**63, LAST - 2, LAST - 1, LAST]) | st.integers(
    0, LAST
)
keys = st.binary(min_size=16, max_size=16) | st.binary(min_size=32, max_size=32)


def theirs(key: bytes, counter: int) -> GCMEncryption:
    """Make asyncssh's object, before the packet with this counter."""
    cipher = GCMCipher(f"aes{len(key) * 8}-gcm", key, b"head" + counter.to_bytes(8, "big"))
    return GCMEncryption(cipher)


def header(packet: bytes) -> bytes:
    """A packet's length as it is sent."""
    return len(packet).to_bytes(LENGTH_BYTES, "big")


def seal(sealer: Sealer, packet: bytes) -> bytes:
    """One frame from the lane's own interface."""
    target = bytearray(len(packet) + FRAME_BYTES)
    assert sealer.seal_into(packet, memoryview(target), 0) == len(target)
    return bytes(target)


def open_as_asyncssh_does(encryption: GCMEncryption | Opener, frame: bytes) -> bytes | None:
    """Open a frame through asyncssh's interface: the first block, and then the rest."""
    first, length = encryption.decrypt_header(0, frame[:16], LENGTH_BYTES)
    assert length == frame[:LENGTH_BYTES]
    rest, tag = frame[16:-TAG_BYTES], frame[-TAG_BYTES:]
    return encryption.decrypt_packet(0, first, rest, LENGTH_BYTES, tag)


def flipped(frame: bytes, bit: int) -> bytes:
    """The same with one bit changed."""
    changed = bytearray(frame)
    changed[bit // 8 % len(frame)] ^= 1 << bit % 8
    return bytes(changed)


@given(keys, counters, st.lists(packets, min_size=1, max_size=6))
def test_frames_are_asyncsshs(key: bytes, counter: int, sent: list[bytes]) -> None:
    """Length, ciphertext and tag are the same, with both key sizes and over the counter's end."""
    ours, reference = Sealer.adopt(theirs(key, counter)), theirs(key, counter)
    alone = Sealer.adopt(theirs(key, counter))
    for packet in sent:
        frame = b"".join(reference.encrypt_packet(0, header(packet), packet))
        assert seal(ours, packet) == frame
        assert alone.seal(packet) == frame


@given(keys, counters, st.lists(packets, min_size=1, max_size=6))
def test_frames_lie_one_behind_the_other(key: bytes, counter: int, sent: list[bytes]) -> None:
    """Sealed into one piece of memory they are the same as sealed one by one, and nothing else."""
    ours, reference = Sealer.adopt(theirs(key, counter)), theirs(key, counter)
    target = bytearray(b"\xaa" * (sum(map(len, sent)) + FRAME_BYTES * len(sent) + 8))
    stop = 4
    for packet in sent:
        stop = ours.seal_into(packet, memoryview(target), stop)
    frames = [b"".join(reference.encrypt_packet(0, header(p), p)) for p in sent]
    assert bytes(target) == b"\xaa" * 4 + b"".join(frames) + b"\xaa" * 4
    assert stop == len(target) - 4


@given(keys, counters, st.lists(st.tuples(packets, st.booleans()), min_size=1, max_size=6))
def test_sealer_serves_lane_and_asyncssh(
    key: bytes, counter: int, sent: list[tuple[bytes, bool]]
) -> None:
    """Packets of both interfaces, in any order, share one counter; asyncssh opens them all."""
    ours, reference = Sealer.adopt(theirs(key, counter)), theirs(key, counter)
    for packet, by_asyncssh in sent:
        if by_asyncssh:
            frame = b"".join(ours.encrypt_packet(0, header(packet), packet))
        else:
            frame = seal(ours, packet)
        assert open_as_asyncssh_does(reference, frame) == packet


ways = st.sampled_from(["lane", "asyncssh", "handed over"])


@given(keys, counters, st.lists(st.tuples(packets, ways), min_size=1, max_size=6))
def test_opener_serves_lane_and_asyncssh(
    key: bytes, counter: int, sent: list[tuple[bytes, str]]
) -> None:
    """Packets opened by the lane, by asyncssh, or by the lane for asyncssh share one counter."""
    ours, reference = Opener.adopt(theirs(key, counter)), theirs(key, counter)
    for packet, way in sent:
        frame = b"".join(reference.encrypt_packet(0, header(packet), packet))
        if way == "asyncssh":
            assert open_as_asyncssh_does(ours, frame) == packet
            continue
        view = memoryview(frame)
        opened = ours.open(view[:LENGTH_BYTES], view[LENGTH_BYTES:])
        assert opened == packet
        if way == "handed over":
            ours.hand_over(opened)
            assert open_as_asyncssh_does(ours, frame) is opened


def test_what_is_handed_over_is_given_once() -> None:
    """The packet after one that was handed over is opened as usual."""
    key = bytes(16)
    ours, reference = Opener.adopt(theirs(key, 0)), theirs(key, 0)
    frames = [b"".join(reference.encrypt_packet(0, header(p), p)) for p in (b"a" * 16, b"b" * 16)]
    opened = ours.open(frames[0][:LENGTH_BYTES], frames[0][LENGTH_BYTES:])
    assert opened is not None
    ours.hand_over(opened)
    assert open_as_asyncssh_does(ours, frames[0]) == b"a" * 16
    assert open_as_asyncssh_does(ours, frames[1]) == b"b" * 16


@pytest.mark.parametrize("size", [16, 32], ids=["aes128", "aes256"])
@given(packet=packets, bit=st.integers(min_value=0))
def test_any_changed_bit_is_noticed(size: int, packet: bytes, bit: int) -> None:
    """In length, ciphertext or tag, through either interface, as asyncssh notices it."""
    key = bytes(range(size))
    frame = flipped(b"".join(theirs(key, 7).encrypt_packet(0, header(packet), packet)), bit)
    assert open_as_asyncssh_does(theirs(key, 7), frame) is None
    assert open_as_asyncssh_does(Opener.adopt(theirs(key, 7)), frame) is None
    ours = Opener.adopt(theirs(key, 7))
    assert ours.open(frame[:LENGTH_BYTES], frame[LENGTH_BYTES:]) is None


def frames_of(encryption: GCMEncryption | Sealer, sent: Iterable[bytes]) -> list[bytes]:
    """Frames through asyncssh's interface."""
    return [b"".join(encryption.encrypt_packet(0, header(p), p)) for p in sent]


def test_counter_wraps_and_the_fixed_part_stays() -> None:
    """After 2⁶⁴ - 1 comes 0, without a carry into the nonce's fixed part."""
    key, sent = bytes(16), [b"x" * 16] * 3
    ours = Sealer.adopt(theirs(key, LAST - 1))
    frames = [seal(ours, packet) for packet in sent]
    assert frames == frames_of(theirs(key, LAST - 1), sent)
    assert frames[2] == seal(Sealer.adopt(theirs(key, 0)), sent[2])
    assert len(set(frames)) == 3


def test_adopts_where_asyncssh_stands() -> None:
    """Taken over in the middle of a stream, the next packet has the next counter."""
    key, sent = bytes(16), [b"1" * 16, b"2" * 16, b"3" * 16]
    theirs_until_then = theirs(key, 5)
    frames = frames_of(theirs_until_then, sent[:2])
    frames.append(seal(Sealer.adopt(theirs_until_then), sent[2]))
    assert frames == frames_of(theirs(key, 5), sent)
