"""The ground that a benchmark stands on: a temporary directory, a key, payloads, child processes.

The rules that it keeps: every process started here is ended by its own id when its group closes,
every wait has a limit, and the directory goes when the workspace closes, however that comes about.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HOST: Final = "127.0.0.1"
AES: Final = "aes128-gcm@openssh.com"
CHACHA: Final = "chacha20-poly1305@openssh.com"
ROOT: Final = Path(__file__).resolve().parent.parent
"""Where ``python -m`` finds both the server's package and this one."""

MIB: Final = 1 << 20
STEP_LIMIT: Final = 60.0
"""Seconds for any one step of a run: far above the slowest baseline on a slow machine."""
LOGIN_LIMIT: Final = 60.0
"""Seconds until all clients of a run must have logged in."""
_END_LIMIT: Final = 5.0
"""Seconds between asking a process to end and killing it."""
_POLL: Final = 0.001
"""Seconds between two looks at something that nobody reports to us (a log file, a port)."""


class BenchError(Exception):
    """A run that gave no figure; the message is one line that says why."""


@dataclass(frozen=True)
class Payload:
    """A file of random bytes and what a reader of it must have seen."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Endpoint:
    """Where a system under test listens and who logs in there."""

    port: int
    user: str
    key: Path
    source: str = ""
    """The address that clients come from, where it matters."""


@dataclass(frozen=True)
class Client:
    """One OpenSSH client, with the file it logs to and the file its stderr goes to."""

    process: subprocess.Popen[bytes]
    log: Path
    errors: Path

    @property
    def stdin(self) -> IO[bytes]:
        """Our end of its stdin, if it was started with a pipe there."""
        return piped(self.process.stdin)

    @property
    def stdout(self) -> IO[bytes]:
        """Our end of its stdout, if it was started with a pipe there."""
        return piped(self.process.stdout)

    def check(self) -> None:
        """Waits for the client to end.

        Raises:
            BenchError: it did not end in time, or not with status 0.
        """
        try:
            status = self.process.wait(STEP_LIMIT)
        except subprocess.TimeoutExpired:
            raise BenchError("a client did not end") from None
        if status != 0:
            raise BenchError(f"a client ended with status {status}: {self.last_words()}")

    def last_words(self) -> str:
        """Returns the last line that the server or the client itself had to say."""
        return last_line(self.errors) or last_line(self.log) or "no message"


class Processes:
    """A group of child processes that ends with its ``with`` block."""

    def __init__(self, directory: Path, numbers: itertools.count[int]) -> None:
        self._directory = directory
        self._numbers = numbers
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def spawn(
        self,
        command: Sequence[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Starts a program, unbuffered, that this group will end."""
        process = subprocess.Popen(
            list(command), stdin=stdin, stdout=stdout, stderr=stderr, bufsize=0, cwd=ROOT
        )
        self._started.append(process)
        return process

    def ssh(
        self,
        endpoint: Endpoint,
        remote: str,
        *,
        cipher: str | None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
    ) -> Client:
        """Starts an OpenSSH client; without a cipher it takes the one it likes best."""
        number = next(self._numbers)
        log = self._directory / f"client-{number}.log"
        errors = self._directory / f"client-{number}.err"
        with errors.open("wb") as stderr:
            command = ssh_command(endpoint, remote, cipher=cipher, log=log)
            process = self.spawn(command, stdin=stdin, stdout=stdout, stderr=stderr)
        return Client(process, log, errors)

    def end(self) -> None:
        """Ends what still runs, politely at first, and closes our ends of its pipes."""
        for process in self._started:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            if process.poll() is None:
                process.terminate()
        for process in self._started:
            try:
                process.wait(_END_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._started.clear()


class Workspace:
    """The temporary directory of a benchmark and what lies in it.

    It is on ``/dev/shm`` where that has room, so that no disk is measured.
    """

    def __init__(self, room: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pipe-bench-", dir=_place_with(room)))
        self.key = self.directory / "client_key"
        self._numbers = itertools.count()
        self._payloads: dict[int, Payload] = {}
        make_key(self.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def processes(self) -> Processes:
        """Returns a new group of processes: use it in a ``with`` statement."""
        return Processes(self.directory, self._numbers)

    def new_name(self, stem: str) -> str:
        """Returns a name that nobody has used yet, for a topic or a directory."""
        return f"{stem}{next(self._numbers)}"

    def payload(self, size: int) -> Payload:
        """Returns a file of so many random bytes, made at the first call and kept."""
        if size not in self._payloads:
            digest = hashlib.sha256()
            path = self.directory / f"payload-{size}"
            with path.open("wb") as file:
                for start in range(0, size, MIB):
                    block = os.urandom(min(MIB, size - start))
                    digest.update(block)
                    file.write(block)
            self._payloads[size] = Payload(path, size, digest.hexdigest())
        return self._payloads[size]


def ssh_command(
    endpoint: Endpoint, remote: str, *, cipher: str | None = None, log: Path | None = None
) -> list[str]:
    """Returns the command line of an OpenSSH client that reads no configuration of this machine."""
    options = [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
    ]
    command = ["ssh", "-T", "-F", "none", "-i", str(endpoint.key), "-p", str(endpoint.port)]
    for option in options:
        command += ["-o", option]
    if cipher is not None:
        command += ["-c", cipher]
    if endpoint.source:
        command += ["-b", endpoint.source]
    command += ["-v", "-E", str(log)] if log is not None else ["-q"]
    return [*command, f"{endpoint.user}@{HOST}", remote]


def wait_logged_in(clients: Iterable[Client]) -> None:
    """Waits until each client has logged in and asked for its command, by its own log.

    Raises:
        BenchError: one of them ended before that, or it took longer than `LOGIN_LIMIT`.
    """
    for client in clients:
        wait_until(partial(_has_logged_in, client), LOGIN_LIMIT, "a login")


def wait_until(ready: Callable[[], bool], limit: float, what: str) -> None:
    """Waits for something that can only be looked at.

    Raises:
        BenchError: it had not come about after `limit` seconds.
    """
    deadline = time.monotonic() + limit
    while not ready():
        if time.monotonic() > deadline:
            raise BenchError(f"{what} took more than {limit:.0f} s")
        time.sleep(_POLL)


def piped(end: IO[bytes] | None) -> IO[bytes]:
    """Returns our end of a pipe that a process was started with.

    Raises:
        ValueError: it was started without one.
    """
    if end is None:
        raise ValueError("started without a pipe")
    return end


def make_key(path: Path) -> None:
    """Makes an Ed25519 key pair without a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(path)]
    subprocess.run(command, check=True, timeout=_END_LIMIT, stdin=subprocess.DEVNULL)


def last_line(path: Path) -> str:
    """Returns the last line of a text file that is not blank, or nothing."""
    try:
        lines = path.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _has_logged_in(client: Client) -> bool:
    # OpenSSH logs this line at the moment it sends its exec request (client_session2_setup).
    with contextlib.suppress(FileNotFoundError):
        if b"Sending command" in client.log.read_bytes():
            return True
    if client.process.poll() is not None:
        raise BenchError(f"a client could not log in: {client.last_words()}")
    return False


def _place_with(room: int) -> Path | None:
    memory = Path("/dev/shm")  # noqa: S108 (mkdtemp makes the name)
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * room:
        return memory
    return None
