"""Terminals for people who do what the documentation says.

Each block is run by bash, in a folder of its own; the `ssh` that it finds first has the README's
lines as its `~/.ssh/config`, and is told beside them only what a reader would have: the key, and
that this server's port is another.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
from typing import TYPE_CHECKING, Final

from . import clients
from .processes import Input, Process
from .server import ROOT, Server

if TYPE_CHECKING:
    from pathlib import Path

    from .clients import KeyRing

README: Final = (ROOT / "README.md").read_text()

RECIPES: Final = "Recipes"


def section(title: str, text: str = README) -> str:
    """What stands below the heading `title`, up to the next one of its rank."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def indented_blocks(text: str) -> list[str]:
    """The blocks that are set off by four blanks, without these."""
    blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks]


def fenced_blocks(text: str, language: str = "sh") -> list[str]:
    """The blocks that are marked as being in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


class Terminal:
    """A folder, and a bash in it that runs one block."""

    def __init__(self, folder: Path, environment: dict[str, str], server: Server) -> None:
        self.folder = folder
        self._environment = environment
        self._server = server
        self._process: Process | None = None

    def start(self, block: str, stdin: Input = None) -> Process:
        """Type this block; a session of its own lets Ctrl-C reach all that it started."""
        self._process = Process(
            ["bash", "-c", block],
            stdin=stdin,
            environment=self._environment,
            directory=self.folder,
            new_session=True,
        )
        return self._server.adopt(self._process)

    def program(self, name: str, text: str) -> None:
        """Put a shell script of the reader's own, `./name`, into the folder."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def control_c(self) -> None:
        """Interrupt what runs."""
        self._signal(signal.SIGINT)

    def close(self) -> None:
        """End whatever is still there."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class Desks:
    """Terminals for people who have read the README."""

    def __init__(self, folder: Path, server: Server, keys: KeyRing) -> None:
        self._folder = folder
        self._server = server
        self._keys = keys
        self._terminals: list[Terminal] = []

    def terminal(self, user: str = "alice") -> Terminal:
        """Open one more, for this person."""
        folder = self._folder / f"terminal{len(self._terminals)}"
        folder.mkdir()
        path = f"{self._ssh(user)}{os.pathsep}{os.environ['PATH']}"
        environment = {**clients.bare_environment(), "PATH": path}
        self._terminals.append(Terminal(folder, environment, self._server))
        return self._terminals[-1]

    def close(self) -> None:
        """Close them all."""
        for terminal in self._terminals:
            terminal.close()

    def _ssh(self, user: str) -> Path:
        """The folder of an `ssh` that is configured as the README tells this person to do it."""
        folder = self._folder / f"bin-{user}"
        if folder.exists():  # one that runs must not be written again
            return folder
        folder.mkdir()
        [stanza] = indented_blocks(section(RECIPES).split("### 1.")[0])
        assert "User alice\n" in stanza
        config = folder / "config"
        config.write_text(stanza.replace("User alice\n", f"User {user}\n"))
        ssh = shutil.which("ssh")
        assert ssh
        words = [ssh, "-F", str(config), "-i", str(self._keys.openssh(user))]
        for option in (
            f"Port={self._server.port}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            *clients.OPENSSH_OPTIONS,
        ):
            words += ["-o", option]
        (folder / "ssh").write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (folder / "ssh").chmod(0o755)
        return folder
