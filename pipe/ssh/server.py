"""Listens for SSH, with every option of asyncssh set explicitly.

asyncssh's defaults are those of a general library: they include GSSAPI, agent forwarding,
compression, a line editor and large Diffie-Hellman groups.  Only what `pipe` needs is enabled here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

import asyncssh
import structlog

from pipe.errors import Ending, NotMoved, StartError
from pipe.language.names import escape
from pipe.limits.doorman import Doorman
from pipe.limits.gate import Refusal
from pipe.limits.listener import BACKLOG, why_not
from pipe.settings import Lane
from pipe.ssh.auth import Peer
from pipe.ssh.handover import adopt, decode
from pipe.ssh.lane import LaneConnection, Outbox, check_internals, prepare_quickly
from pipe.ssh.login.logins import Logins
from pipe.ssh.login.signatures import SIGNATURE_ALGORITHMS
from pipe.ssh.login.tenure import Tenures
from pipe.ssh.plain import PlainConnection
from pipe.ssh.windows import MAX_PACKET_BYTES

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from pipe.limits.gate import Visit
    from pipe.service import Service
    from pipe.session.session import Session
    from pipe.ssh.connection import Connection

KEX_ALGORITHMS = ("curve25519-sha256", "curve25519-sha256@libssh.org", "mlkem768x25519-sha256")
"""The order matters: dropbear 2022.83 fails if mlkem comes first, and clients that support it pick
it anyway.  RSA key exchange and large groups are left out, as each costs the server 58 ms before
any login."""

CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
)

MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
"""For aes256-ctr only; encrypt-then-MAC, so that nothing is decrypted before it is verified."""

SERVER_VERSION = "OpenSSH_pipe"
"""The software in the version string: a name without a version to match exploits against.

It begins with OpenSSH because `ssh` tells only such servers that its stdout is gone
(`pipe.ssh.openssh`); otherwise ``ssh HOST sub -k log | head -n 2`` would never end.  Clients detect
old and faulty releases by the number that follows, and there is none.
"""


log = structlog.get_logger()


def load_host_key(path: Path) -> asyncssh.SSHKey:
    """Read the server's key, or make it on the first start; only the server's user may read it.

    Raises:
        StartError: the file cannot be read, written or parsed.
    """
    try:
        if not path.exists():
            key = asyncssh.generate_private_key("ssh-ed25519", comment="pipe")
            _write_secret(path, key.export_private_key())
        _close_to_others(path)
    except OSError as error:
        raise StartError(f"cannot use the host key {path}: {error.strerror or error}") from error
    return read_host_key(path)


def read_host_key(path: Path) -> asyncssh.SSHKey:
    """Read the server's key.

    Raises:
        StartError: the file cannot be read or parsed.
    """
    try:
        return asyncssh.read_private_key(path)
    except OSError as error:
        raise StartError(f"cannot use the host key {path}: {error.strerror or error}") from error
    except asyncssh.KeyImportError as error:
        raise StartError(
            f"the host key {path} is damaged ({error}); restore it from a backup, or remove it "
            "and all clients will have to accept a new one"
        ) from error


def _families(host: str) -> str | tuple[str, str]:
    """The addresses to bind: for ``::`` also those of IPv4, which the event loop leaves out.

    A socket for both families would report IPv4 clients under other addresses than the limits and
    lists of networks use.
    """
    return ("::", "0.0.0.0") if host == "::" else host  # noqa: S104 - it was asked for


def _close_to_others(path: Path) -> None:
    """Remove other users' access to a secret, as far as the file system lets us."""
    if not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return
    log.warning(
        "host key was open to others",
        path=escape(str(path)),
        reason="whoever has read it can pass for this server: if that may be, replace it",
    )
    with contextlib.suppress(OSError):
        path.chmod(0o600)


def _write_secret(path: Path, secret: bytes) -> None:
    """Write all of a file or nothing: half a key would prevent the next start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
    except OSError:
        path.unlink()
        raise


class SSHServer:
    """The listening socket and the connections that come in through it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._server: asyncio.Server | None = None
        self._connections: WeakSet[Connection] = WeakSet()

    def prepare(self) -> None:
        """Make everything but a listening socket.

        Raises:
            StartError: the host key, the trusted CAs or the folder of authorized keys cannot be
            used, or asyncssh does not fit the lane.
        """
        settings = self._service.settings
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._loop, self._service.turns)
        if settings.lane is Lane.FAST:
            check_internals()
            prepare_quickly()
        logins = Logins(self._service, self._service.claims)
        self._tenures = Tenures(logins, self._service.access, self._service.expel)
        self._service.tokens.voucher = self._tenures
        self._options = make_options(
            self._service,
            load_host_key(settings.host_key_path),
            partial(Peer, self._service, logins, self._tenures),
        )

    async def start(self) -> None:
        """Begin to accept; sets ``service.port``.

        Raises:
            StartError: as `prepare`, or the address cannot be used.
        """
        self.prepare()
        settings = self._service.settings
        try:
            self._server = await self._loop.create_server(
                lambda: Doorman(self._welcome),
                # With port 0 each family would get a different port.
                _families(settings.host) if settings.port else settings.host,
                settings.port,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise why_not(settings.host, settings.port, error) from error
        self._service.port = self._server.sockets[0].getsockname()[1]

    def _welcome(self, address: str) -> Connection | None:
        """Make a connection for a client that the gate lets in."""
        visit = self._service.gate.enter(address, self._loop.time())
        if isinstance(visit, Refusal):
            self._service.metrics.refused.labels(visit.value).inc()
            log.info("connection refused", address=address, reason=visit.value)
            return None
        return self.receive(visit)

    def receive(self, visit: Visit) -> Connection:
        """Make the protocol of a connection that was let in."""
        loop, options = self._loop, self._options
        connection: Connection
        if self._service.settings.lane is Lane.FAST:
            connection = LaneConnection(loop, options, self._service, self._outbox)
        else:
            connection = PlainConnection(loop, options, self._service)
        connection.visit = visit
        visit.cut = partial(connection.cut_off, Ending.EVICTED)
        self._connections.add(connection)
        return connection

    async def adopt(
        self,
        data: bytes,
        client: socket.socket,
        ready: Callable[[Session], object] = lambda _: None,
        visit: Visit | None = None,
    ) -> None:
        """Go on with a connection that another process has exported; see `pipe.ssh.handover`.

        Args:
            data: its state, encoded.
            client: its socket, which is closed if this fails.
            ready: called with its session before that begins.
            visit: if the gate has counted it already.

        Raises:
            NotMoved: it cannot go on here.
            StoreUnavailable: whether its client is still welcome cannot be known now.
        """
        try:
            cargo = decode(data)
            if self._service.settings.lane is not Lane.FAST:
                raise NotMoved("this process does not use the fast lane")
        except NotMoved:
            client.close()
            raise
        connection = await adopt(
            self._service, self._options, self._outbox, cargo, client, ready, visit
        )
        self._connections.add(connection)

    def stop_accepting(self) -> None:
        """Close the listening socket; connections go on."""
        if self._server:
            self._server.close()

    async def close(self, patience: float) -> None:
        """Give clients ``patience`` seconds to close their connections, then close the rest."""
        closing = [asyncio.ensure_future(conn.wait_closed()) for conn in self._connections]
        if closing:
            _, late = await asyncio.wait(closing, timeout=patience)
            for connection in list(self._connections):
                connection.cut_off(Ending.SHUTDOWN, "the server is shutting down")
            if late:
                await asyncio.wait(late, timeout=patience)
        self._service.turns.finish()
        self._tenures.close()


def make_options(
    service: Service, host_key: asyncssh.SSHKey, peer_factory: partial[Peer]
) -> asyncssh.SSHServerConnectionOptions:
    """Spell out every option that asyncssh has for a server."""
    settings = service.settings
    return asyncssh.SSHServerConnectionOptions(
        server_factory=peer_factory,
        server_host_keys=[host_key],
        send_server_host_keys=False,
        server_version=SERVER_VERSION,
        kex_algs=KEX_ALGORITHMS,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        compression_algs=None,
        signature_algs=SIGNATURE_ALGORITHMS,
        public_key_auth=True,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        authorized_client_keys=None,
        x509_trusted_certs=None,
        agent_forwarding=False,
        x11_forwarding=False,
        allow_pty=True,
        line_editor=False,
        allow_scp=False,
        sftp_factory=None,
        process_factory=None,
        session_factory=None,
        encoding=None,
        rdns_lookup=False,
        tcp_keepalive=True,
        login_timeout=settings.login_timeout,
        keepalive_interval=settings.keepalive_interval,
        keepalive_count_max=settings.keepalive_count,
        rekey_bytes=settings.rekey_bytes,
        window=settings.window,
        max_pktsize=MAX_PACKET_BYTES,
    )
