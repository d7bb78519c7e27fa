"""How often a client may try to log in on one connection, counted as sshd does."""

from __future__ import annotations

import asyncssh
from asyncssh.packet import SSHPacket

TOO_MANY_TRIES_TEXT = (
    "Too many authentication failures: name your key, as in ssh -i KEY -o IdentitiesOnly=yes"
)
"""Usually the user's agent has many keys.  The text begins like sshd's."""

MAX_AUTH_REQUESTS = 1024
"""Requests to log in on one connection, however they end; sshd has the same bound.  Asking whether
a good key would do is not a failure, and its answer waits in memory while keys are exchanged."""


class Tries:
    """One connection's requests to log in.

    Args:
        most: failures after which the connection ends.
    """

    __slots__ = ("_counts", "_failures", "_most", "_requests")

    def __init__(self, most: int) -> None:
        self._most = most
        self._requests = 0
        self._failures = 0
        self._counts = False  # while a request is open that counts as a failure unless it succeeds

    def begin(self, request: SSHPacket) -> None:
        """Count a new request.

        All count except a first "none", with which clients ask for the available methods.  A
        request that the client abandons by sending the next one counts (RFC 4252, section 5.1).

        Raises:
            DisconnectError: there have been too many.
        """
        self.end(failed=True)
        self._counts = self._requests > 0 or _method_of(request) != b"none"
        self._requests += 1
        if self._requests > MAX_AUTH_REQUESTS:
            self._refuse()

    def end(self, *, failed: bool) -> None:
        """Note the result of the request.

        Raises:
            DisconnectError: it is the last failure that is allowed.
        """
        counts, self._counts = self._counts, False
        self._failures += failed and counts
        if self._failures >= self._most:
            self._refuse()

    @staticmethod
    def _refuse() -> None:
        raise asyncssh.DisconnectError(
            asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, TOO_MANY_TRIES_TEXT
        )


def _method_of(packet: SSHPacket) -> bytes:
    """The method that a request to log in uses."""
    request = SSHPacket(packet.get_remaining_payload())
    _user, _service, method = (request.get_string() for _ in range(3))
    return method
