"""Chooses a connection's cipher: AES-GCM whenever the client supports it.

OpenSSH prefers chacha20-poly1305, which costs more than twice as much as AES-GCM here, and the
client's order decides (RFC 4253, section 7.1).  So the server's KEXINIT waits for the client's, and
offers only AES-GCM if the client supports it.
"""

from __future__ import annotations

import functools

from asyncssh.packet import SSHPacket

GCM_CIPHERS = (b"aes128-gcm@openssh.com", b"aes256-gcm@openssh.com")

KEXINIT_COOKIE_BYTES = 16

KEXINIT_PATIENCE_SECONDS = 1.0
"""How long the server's KEXINIT waits for the client's, which arrives a round trip after ours could
have gone: 0.6 s over a satellite.  RFC 4253, section 7.1, lets each side send its own at once; a
client that waits for ours anyway has to wait this long."""


RECENT_CLIENTS = 64
"""Kinds of clients whose lists are remembered: a program sends the same ones each time."""

SHORT_KEXINIT_BYTES = 4096
"""Longer lists are not remembered: OpenSSH's take 1.5 KiB."""


def offers_gcm(kexinit: SSHPacket) -> bool:
    """Whether the client's KEXINIT (RFC 4253, section 7.1) lists AES-GCM in both directions."""
    lists = kexinit.get_full_payload()[1 + KEXINIT_COOKIE_BYTES :]
    return _recent_lists(lists) if len(lists) <= SHORT_KEXINIT_BYTES else _list_gcm(lists)


def _list_gcm(lists: bytes) -> bool:
    packet = SSHPacket(lists)
    try:
        packet.get_namelist()  # key exchange
        packet.get_namelist()  # host keys
        to_server, to_client = packet.get_namelist(), packet.get_namelist()
    except ValueError:
        return False  # asyncssh will report what is wrong with it
    return any(name in to_server and name in to_client for name in GCM_CIPHERS)


_recent_lists = functools.lru_cache(maxsize=RECENT_CLIENTS)(_list_gcm)
