"""OpenSSH's extensions to SSH, which it uses with servers that call themselves OpenSSH.

Its file PROTOCOL describes both requests:

- ``eow@openssh.com`` on a channel ("end of write"): the client's stdout is gone, and the client
  discards what it reads from now on.  The kernel tells a local program that with SIGPIPE, so here
  the request becomes that signal.
- ``no-more-sessions@openssh.com`` on a connection: the client opens no more sessions.  If one is
  opened after all, somebody has taken over the client.

This uses only public names of asyncssh, which names signals without ``SIG``.
"""

from __future__ import annotations

from asyncssh.packet import Boolean, SSHPacket, String

BROKEN_PIPE = "PIPE"
"""SIGPIPE, as a channel request names it (RFC 4254, section 6.10)."""

_END_OF_WRITE = b"eow@openssh.com"
_NO_MORE_SESSIONS = b"no-more-sessions@openssh.com"
_KEEPALIVE = "keepalive@openssh.com"


def end_of_write_as_signal(packet: SSHPacket) -> SSHPacket:
    """Turn a channel's "end of write" request into a signal; leave others as they are."""
    request = SSHPacket(packet.get_remaining_payload())
    if request.get_string() != _END_OF_WRITE:
        return packet
    reply = Boolean(request.get_boolean())
    request.check_end()
    return SSHPacket(String("signal") + reply + String(BROKEN_PIPE))


def no_more_sessions_as_keepalive(packet: SSHPacket) -> SSHPacket | None:
    """Turn such a global request into one that asyncssh accepts; None for any other."""
    request = SSHPacket(packet.get_remaining_payload())
    if request.get_string() != _NO_MORE_SESSIONS:
        return None
    reply = Boolean(request.get_boolean())
    request.check_end()
    return SSHPacket(String(_KEEPALIVE) + reply)
