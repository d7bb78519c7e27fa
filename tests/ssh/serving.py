"""A server in the test's own process, and clients for it that know no manners."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING, Any, Final

import asyncssh
import paramiko

from pipe.service import Service
from pipe.settings import Settings
from pipe.ssh.server import SSHServer
from pipe.store import Store
from tests.e2e.processes import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

HOST: Final = "127.0.0.1"

GOODBYE: Final = 0.0
"""Seconds that the server waits for clients when it stops: they are the test's own."""

SERVICE_ACCEPT: Final = 6
REQUEST: Final = 50
FAILURE: Final = 51
SUCCESS: Final = 52
BANNER: Final = 53
KEY_IS_GOOD: Final = 60


@contextlib.asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[Service]:  # noqa: ANN401
    """A server with these settings, on a free port, with a database of its own."""
    chosen = {"port": 0, "metrics_port": 0, "data_dir": folder, "signup": "open", **settings}
    made = Settings(**chosen)
    async with await Store.open(made.resolved_database_url) as store:
        service = Service(made, store)
        server = SSHServer(service)
        await server.start()
        try:
            yield service
        finally:
            server.stop_accepting()
            await server.close(GOODBYE)


class Client(asyncssh.SSHClient):
    """An asyncssh client that keeps what it is told before the login."""

    def __init__(self) -> None:
        self.banner = ""

    def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002
        """Keep it."""
        self.banner += msg


async def connect(
    service: Service,
    user: str,
    *keys: asyncssh.SSHKey | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate],
) -> asyncssh.SSHClientConnection:
    """Log in with these keys.

    Raises:
        asyncssh.Error: the server does not let them in.
    """
    return await _connect(Client, service, user, *keys)


async def _connect(
    make: Callable[[], Client],
    service: Service,
    user: str,
    *keys: asyncssh.SSHKey | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate],
) -> asyncssh.SSHClientConnection:
    connection, _ = await asyncssh.create_connection(
        make,
        HOST,
        service.port,
        username=user,
        client_keys=[*keys],
        known_hosts=None,
        agent_path=None,
        config=None,
    )
    return connection


async def refusal(
    service: Service,
    user: str,
    *keys: asyncssh.SSHKey | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate],
) -> str:
    """Fail to log in, and return what the server says about it in its banner."""
    clients: list[Client] = []

    def make() -> Client:
        clients.append(Client())
        return clients[0]

    try:
        connection = await _connect(make, service, user, *keys)
    except asyncssh.DisconnectError:
        return clients[0].banner
    connection.abort()
    raise AssertionError("logged in")


async def run(connection: asyncssh.SSHClientConnection, command: str) -> str:
    """Run one command to its end and return what it answers on stdout."""
    result = await connection.run(command)
    return str(result.stdout)


class RawClient(paramiko.Transport):
    """A client whose requests to log in are written by hand.

    Its methods wait, so call them on another thread than the server's.
    """

    def __init__(self, port: int) -> None:
        super().__init__((HOST, port))
        self.banner_timeout = self.handshake_timeout = DEADLINE
        self._answers: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
        self.banner = ""
        self.start_client(timeout=DEADLINE)
        self.auth_handler = self._Handler(self._answers)  # type: ignore[assignment]
        message = paramiko.Message()
        message.add_byte(bytes([5]))
        message.add_string("ssh-userauth")
        self._send_message(message)  # type: ignore[attr-defined]
        assert self.answer() == SERVICE_ACCEPT

    class _Handler:
        """Stands in paramiko's handler's place and passes all on."""

        def __init__(self, answers: queue.Queue[tuple[int, bytes] | None]) -> None:
            self._answers = answers
            numbers = (SERVICE_ACCEPT, FAILURE, SUCCESS, BANNER, KEY_IS_GOOD)
            self._handler_table = {number: self._taker(number) for number in numbers}

        def _taker(self, number: int) -> Any:  # noqa: ANN401
            def take(*given: Any) -> None:  # noqa: ANN401
                self._answers.put((number, given[-1].get_remainder()))

            return take

        def abort(self) -> None:
            self._answers.put(None)

        def is_authenticated(self) -> bool:
            return False

    def answer(self) -> int | None:
        """The number of the next message that is no banner; None once the connection is closed."""
        while True:
            found = self._answers.get(timeout=DEADLINE)
            if found is None:
                return None
            number, content = found
            if number != BANNER:
                return number
            self.banner += content[4 : 4 + int.from_bytes(content[:4])].decode()

    def request(self, user: str, method: str, *fields: bytes | bool) -> int | None:
        """Ask to be let in, and return the answer's number."""
        self._send(self._request(user, method, *fields))
        return self.answer()

    def _send(self, message: paramiko.Message) -> None:
        """To a server that has hung up it is not sent: `answer` tells of that."""
        with contextlib.suppress(EOFError):
            self._send_message(message)  # type: ignore[attr-defined]

    def _request(self, user: str, method: str, *fields: bytes | bool) -> paramiko.Message:
        message = paramiko.Message()
        message.add_byte(bytes([REQUEST]))
        for text in (user, "ssh-connection", method):
            message.add_string(text)
        for field in fields:
            if isinstance(field, bool):
                message.add_boolean(field)
            else:
                message.add_string(field)
        return message

    def query(self, user: str, blob: bytes, algorithm: bytes = b"") -> int | None:
        """Ask whether a key would do."""
        self.send_query(user, blob, algorithm)
        return self.answer()

    def send_query(self, user: str, blob: bytes, algorithm: bytes = b"") -> None:
        """The same, without waiting for the answer."""
        name = algorithm or blob[4 : 4 + int.from_bytes(blob[:4])]
        self._send(self._request(user, "publickey", False, name, blob))

    def sign(
        self,
        user: str,
        key: asyncssh.SSHKey,
        *,
        algorithm: bytes = b"",
        blob: bytes = b"",
    ) -> int | None:
        """Sign with a key; `blob` says that it were another one."""
        algorithm = algorithm or key.sig_algorithms[0]
        shown = blob or key.public_data
        fields = (True, algorithm, shown)
        session = paramiko.Message()
        session.add_string(self.session_id or b"")
        signed = session.asbytes() + self._request(user, "publickey", *fields).asbytes()
        return self.request(user, "publickey", *fields, key.sign(signed, algorithm))
