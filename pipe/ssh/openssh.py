"""What OpenSSH has added to SSH, and sends to servers that call themselves OpenSSH.

Its file PROTOCOL describes both requests:

- ``eow@openssh.com`` on a channel ("end of write"): the client's stdout is gone, and what it reads
  from now on it throws away.  To a program on its own machine the kernel says that with SIGPIPE, so
  here the request becomes that signal.
- ``no-more-sessions@openssh.com`` on a connection: the client opens no further session, and who
  opens one all the same has taken it over.

Only public names of asyncssh are used here; its own way to name a signal is without ``SIG``.
"""

from __future__ import annotations

from asyncssh.packet import Boolean, SSHPacket, String

BROKEN_PIPE = "PIPE"
"""SIGPIPE, as a channel's request names it (RFC 4254, section 6.10)."""

_END_OF_WRITE = b"eow@openssh.com"
_NO_MORE_SESSIONS = b"no-more-sessions@openssh.com"
_KEEPALIVE = "keepalive@openssh.com"


def end_of_write_as_signal(packet: SSHPacket) -> SSHPacket:
    """Turn a channel's request that says "end of write" into a signal; leave others as they are."""
    request = SSHPacket(packet.get_remaining_payload())
    if request.get_string() != _END_OF_WRITE:
        return packet
    reply = Boolean(request.get_boolean())
    request.check_end()
    return SSHPacket(String("signal") + reply + String(BROKEN_PIPE))


def no_more_sessions_as_keepalive(packet: SSHPacket) -> SSHPacket | None:
    """Turn such a global request into one to which asyncssh says yes; None for any other."""
    request = SSHPacket(packet.get_remaining_payload())
    if request.get_string() != _NO_MORE_SESSIONS:
        return None
    reply = Boolean(request.get_boolean())
    request.check_end()
    return SSHPacket(String(_KEEPALIVE) + reply)
