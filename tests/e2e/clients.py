"""How each real SSH client is called, and the keys of the people who call it."""

from __future__ import annotations

import functools
import os
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

HOST: Final = "127.0.0.1"

OPENSSH_OPTIONS: Final = (
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
)


def _run(*command: str | Path) -> str:
    return subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    ).stdout


class KeyRing:
    """One key pair for each person, made when first asked for, in any client's format."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def openssh(self, user: str, kind: Sequence[str] = ("ed25519",)) -> Path:
        """The private key of `user`; `kind` is a type and, if need be, a length in bits."""
        path = self._directory / "-".join((user, *kind))
        if not path.exists():
            options = ["-t", kind[0], *(["-b", kind[1]] if kind[1:] else [])]
            _run("ssh-keygen", "-q", *options, "-N", "", "-C", user, "-f", path)
        return path

    def public(self, user: str) -> bytes:
        """The line of `authorized_keys` for this person."""
        return self.openssh(user).with_suffix(".pub").read_bytes()

    def fingerprint(self, user: str) -> str:
        """The key's fingerprint as every client prints it, `SHA256:…`."""
        return _run("ssh-keygen", "-l", "-f", self.openssh(user)).split()[1]

    def dropbear(self, user: str) -> Path:
        """The same key as dropbear wants it."""
        return self._converted(user, ".dropbear", _to_dropbear)

    def putty(self, user: str) -> Path:
        """The same key as PuTTY wants it."""
        return self._converted(user, ".ppk", _to_putty)

    def _converted(self, user: str, suffix: str, convert: Callable[[Path, Path], object]) -> Path:
        source = self.openssh(user)
        path = source.with_suffix(suffix)
        if not path.exists():
            convert(source, path)
        return path


def _to_dropbear(source: Path, target: Path) -> None:
    _run("dropbearconvert", "openssh", "dropbear", source, target)


def _to_putty(source: Path, target: Path) -> None:
    _run("puttygen", source, "-O", "private", "-o", target)


def openssh(
    port: int, key: Path, user: str, command: str, options: Sequence[str] = (), host: str = HOST
) -> list[str]:
    """OpenSSH with no configuration but `options`, which are words of its command line."""
    settings = [word for option in OPENSSH_OPTIONS for word in ("-o", option)]
    target = ["-i", str(key), "-p", str(port), f"{user}@{host}"]
    identity = ["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
    words = ["ssh", "-F", "none", *options, *settings, *identity, *target]  # the first one counts
    return [*words, command] if command else words


def dropbear(port: int, key: Path, user: str, command: str) -> list[str]:
    """Dropbear's client, which takes any host key (``-y -y``) and asks nothing."""
    return ["dbclient", "-y", "-y", "-i", str(key), "-p", str(port), f"{user}@{HOST}", command]


def plink(port: int, key: Path, user: str, command: str, host_key: str) -> list[str]:
    """PuTTY's command line client; `host_key` is the fingerprint that it shall accept."""
    options = ["-batch", "-ssh", "-noagent", "-hostkey", host_key, "-i", str(key)]
    return ["plink", *options, "-P", str(port), f"{user}@{HOST}", command]


@functools.cache
def bare_environment() -> dict[str, str]:
    """The environment without what would steer the server or give a client other keys."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PIPE_") and name != "SSH_AUTH_SOCK"
    }
