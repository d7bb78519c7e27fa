"""Namespaces of the kernel's: a network that can be cut, and a disk that can be filled.

Both need root.  Where they cannot be had, the tests that ask for them are skipped, with the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

NEAR_ADDRESS: Final = "192.0.2.1"
FAR_ADDRESS: Final = "192.0.2.2"
"""Of the network for examples (RFC 5737), in namespaces that nobody else is in."""

PREFIX_BITS: Final = 24
LAST_HOST: Final = 254
"""What is left of that network for `Cable.renumber`."""

NETWORKS: Final = Path("/var/run/netns")
OWN_NETWORK: Final = Path("/proc/thread-self/ns/net")
CLONE_NEWNET: Final = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def run(*words: str) -> str:
    """Run a program to its end.

    Raises:
        PermissionError: it failed, or is not there; the text is what it said.
    """
    try:
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PermissionError(f"there is no program {words[0]}") from error
    except subprocess.CalledProcessError as error:
        raise PermissionError(f"{' '.join(words)}: {error.stderr.strip()}") from error
    return done.stdout


@contextlib.contextmanager
def _within(network: Path) -> Iterator[None]:
    """Have this thread, and what it starts, in a network namespace (setns(2))."""
    with OWN_NETWORK.open("rb") as before, network.open("rb") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise PermissionError(number, f"setns: {os.strerror(number)}")


class Cable:
    """Two networks of nothing but a loopback address each, and a cable between them.

    The near one is the server's and the test's own; in the far one a test runs the clients that
    are to be cut off.
    """

    def __init__(self) -> None:
        self._near, self._far = (f"pipe-{os.getpid()}-{end}" for end in ("near", "far"))
        self._far_addresses = map("192.0.2.{}".format, range(3, LAST_HOST + 1))

    @contextlib.contextmanager
    def laid(self) -> Iterator[Cable]:
        """Have this thread at the near end.

        Raises:
            PermissionError: the kernel does not want it; the text says what.
        """
        ends = {self._near: NEAR_ADDRESS, self._far: FAR_ADDRESS}
        with contextlib.ExitStack() as stack:
            for name in ends:
                run("ip", "netns", "add", name)
                stack.callback(run, "ip", "netns", "delete", name)
            wire = ("link", "add", "wire", "type", "veth", "peer", "name", "wire")
            run("ip", "-netns", self._near, *wire, "netns", self._far)
            for name, address in ends.items():
                run(
                    "ip",
                    "-netns",
                    name,
                    "address",
                    "add",
                    f"{address}/{PREFIX_BITS}",
                    "dev",
                    "wire",
                )
                for link in ("lo", "wire"):
                    run("ip", "-netns", name, "link", "set", link, "up")
            stack.enter_context(_within(NETWORKS / self._near))
            yield self

    def from_afar(self, command: list[str]) -> list[str]:
        """The same command, at the far end."""
        return ["ip", "netns", "exec", self._far, *command]

    @contextlib.contextmanager
    def afar(self) -> Iterator[None]:
        """Have this thread, and what it starts, at the far end."""
        with _within(NETWORKS / self._far):
            yield

    def pull(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        run("ip", "-netns", self._far, "link", "set", "wire", "down")

    def plug_in(self) -> None:
        """All gets through again."""
        run("ip", "-netns", self._far, "link", "set", "wire", "up")

    def renumber(self) -> None:
        """Give the far end another address: none of its connections ever comes back."""
        address = f"{next(self._far_addresses)}/{PREFIX_BITS}"
        run("ip", "-netns", self._far, "address", "flush", "dev", "wire")
        run("ip", "-netns", self._far, "address", "add", address, "dev", "wire")

    def swallow(self, *, near: bool = False) -> None:
        """What one end sends is dropped, acknowledgements too; it still hears the other one."""
        run(*self._drop("add", near=near))

    def let_through(self, *, near: bool = False) -> None:
        """What it sends arrives again."""
        run(*self._drop("delete", near=near))

    def _drop(self, what: str, *, near: bool) -> list[str]:
        name, other = (self._near, FAR_ADDRESS) if near else (self._far, NEAR_ADDRESS)
        return ["ip", "-netns", name, "route", what, "blackhole", f"{other}/32"]

    def worsen(self, *words: str) -> None:
        """Delay, narrow or lose what the far end sends, as ``tc qdisc`` has it.

        Raises:
            PermissionError: the kernel cannot.
        """
        run("tc", "-netns", self._far, "qdisc", "replace", "dev", "wire", "root", *words)

    def left_in_the_kernel(self) -> int:
        """Connections to the far end that the near kernel still holds, whoever they were of."""
        remote = "".join(f"{int(part):02X}" for part in reversed(FAR_ADDRESS.split(".")))
        sockets = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        return sum(line.split()[2].startswith(f"{remote}:") for line in sockets)


def on_a_small_disk(folder: Path, mebibytes: int) -> list[str]:
    """The words that run a program where ``folder`` is a file system of so many MiB in memory."""
    script = f'mkdir -p "$0"; mount -t tmpfs -o size={mebibytes}m tmpfs "$0"; exec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, str(folder)]


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Have no room for another byte where this folder is."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            _write_until_full(file, bytes(size))
    try:
        yield
    finally:
        path.unlink()


def _write_until_full(file: FileIO, block: bytes) -> None:
    try:
        while file.write(block):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
