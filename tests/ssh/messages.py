"""Payloads and packets as a client may send them (RFC 4254), well formed or not."""

from __future__ import annotations

from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_DEBUG,
)
from asyncssh.packet import Boolean, Byte, String, UInt32

MSG_UNKNOWN = 191
"""A type that nobody has given a meaning, RFC 4251 section 7 leaves it to private use."""

DATA_OVERHEAD = 9
"""Bytes of a CHANNEL_DATA payload beside the data."""


def padded(payload: bytes, padding: int | None = None) -> bytes:
    """A packet before it is sealed, with as much padding as needed or as told."""
    if padding is None:
        padding = -(1 + len(payload)) % 16
        padding += 16 if padding < 4 else 0
    return Byte(padding % 256) + payload + bytes(padding)


def data(channel: int, content: bytes) -> bytes:
    """A CHANNEL_DATA payload."""
    return Byte(MSG_CHANNEL_DATA) + UInt32(channel) + String(content)


def adjust(channel: int, size: int) -> bytes:
    """A CHANNEL_WINDOW_ADJUST payload."""
    return Byte(MSG_CHANNEL_WINDOW_ADJUST) + UInt32(channel) + UInt32(size)


def eof(channel: int) -> bytes:
    """A CHANNEL_EOF payload."""
    return Byte(MSG_CHANNEL_EOF) + UInt32(channel)


def close(channel: int) -> bytes:
    """A CHANNEL_CLOSE payload."""
    return Byte(MSG_CHANNEL_CLOSE) + UInt32(channel)


def request(channel: int, name: str, body: bytes = b"", *, reply: bool = True) -> bytes:
    """A CHANNEL_REQUEST payload."""
    return Byte(MSG_CHANNEL_REQUEST) + UInt32(channel) + String(name) + Boolean(reply) + body


def execute(channel: int, command: str) -> bytes:
    """The request that runs a command."""
    return request(channel, "exec", String(command))


def debug(text: str) -> bytes:
    """A DEBUG payload."""
    return Byte(MSG_DEBUG) + Boolean(True) + String(text) + String("")


def open_session(number: int, window: int = 1 << 21, most: int = 1 << 15) -> bytes:
    """A CHANNEL_OPEN payload: the client's number for it, its window and its largest packet."""
    numbers = UInt32(number) + UInt32(window) + UInt32(most)
    return Byte(MSG_CHANNEL_OPEN) + String("session") + numbers
