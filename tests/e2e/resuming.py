"""People who carry files over bad connections, with what ``help resume`` prints."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from . import clients
from .processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .server import Server


class Desk:
    """A folder with the functions, an `ssh` that knows its key, and no patience for pauses.

    Args:
        server: whose functions they are, and whose port `ssh` takes unless `port` says another.
        folder: is made.
        shell: runs the functions.
        port: where they reach it.
        options: what `ssh` is told beside that.
        host: where they reach it.
        within: has a command run in its own place.
    """

    def __init__(
        self,
        server: Server,
        folder: Path,
        shell: str = "dash",
        port: int = 0,
        options: Sequence[str] = (),
        *,
        host: str = clients.HOST,
        within: Callable[[list[str]], list[str]] = list,
    ) -> None:
        self.server = server
        self.folder = folder
        self._shell = shell
        programs = folder / "bin"
        programs.mkdir(parents=True)
        ssh = shutil.which("ssh")
        assert ssh
        # The first -p counts.
        key = server.keys.openssh("alice")
        command = clients.openssh(port or server.port, key, "alice", "", options, host)
        words = shlex.join(within([ssh, *command[1:-1]]))
        self._program(programs / "ssh", f'echo $$ > ssh.pid; exec {words} "$@"')
        self._program(programs / "sleep", 'exec /bin/sleep "0.0$1"')
        (folder / "resume.sh").write_text(server.run("alice", "help resume").output)
        self._path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def start(self, line: str) -> Process:
        """Run a line in a shell that knows the functions."""
        return self.server.adopt(
            Process(
                [self._shell, "-uc", f". ./resume.sh; {line}"],
                environment={**clients.bare_environment(), "PATH": self._path},
                directory=self.folder,
                new_session=True,
            )
        )

    def write(self, name: str, data: bytes) -> None:
        """Make a file."""
        (self.folder / name).write_bytes(data)

    def read(self, name: str) -> bytes:
        """What is in one."""
        return (self.folder / name).read_bytes()

    def kill_ssh(self) -> None:
        """Kill the `ssh` that runs last."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self.read("ssh.pid"))
            if Path(f"/proc/{pid}/comm").read_text() == "ssh\n":
                os.kill(pid, signal.SIGKILL)


def losses(process: Process) -> int:
    """How often one of the functions has lost its connection so far."""
    return process.text.count("connection lost; next try")
