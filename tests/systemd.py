"""A systemd of the test's own, as PID 1 of namespaces over a copy of this machine's files.

What it writes is gone with it: its root is an overlay in memory, and its /tmp is empty.  It has a
loopback interface and no other, and none of this machine's services.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from .e2e.clients import bare_environment
from .e2e.processes import DEADLINE, Process, wait_until
from .e2e.server import Status

if TYPE_CHECKING:
    from .e2e.processes import Input

PREPARE: Final = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
rm -rf etc/systemd/system etc/rc?.d opt/pipe
mkdir -p etc/systemd/system
mount --rbind /dev dev
mount -t proc proc proc
chroot . /bin/sh -euxc "$2"
umount proc
umount -R dev
shift 2
for group; do
    mkdir "$group"
    echo $$ > "$group/cgroup.procs"
done
exec systemd-nspawn --quiet --directory=. --register=no --keep-unit --private-network --boot
"""
"""A folder, a script that installs what needs a network, and the groups to be in."""

HIERARCHIES: Final = [
    Path("/sys/fs/cgroup", name)
    for name in ("", "unified", "systemd")
    if Path("/sys/fs/cgroup", name, "cgroup.procs").exists()
]
"""Of control groups: those in which systemd keeps its services."""


def why_not() -> str:
    """Why this machine has no room for another systemd; empty if it has."""
    if os.geteuid() != 0:
        return "only root makes namespaces with devices"
    missing = [name for name in ("systemd-nspawn", "unshare", "nsenter") if not shutil.which(name)]
    if missing:
        return f"not installed: {', '.join(missing)} (systemd-container)"
    return "" if HIERARCHIES else "no control groups"


class Machine:
    """One that is booted, or fails to be.

    Args:
        folder: its own, and empty.
        script: what is installed before it boots, by root.
    """

    def __init__(self, folder: Path, script: str) -> None:
        self._groups = [place / f"pipe-test-{os.getpid()}" for place in HIERARCHIES]
        words = ["unshare", "--mount", "sh", "-euc", PREPARE, "sh"]
        environment = {**bare_environment(), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        environment.pop("NOTIFY_SOCKET", None)
        self._spawner = Process(
            [*words, str(folder), script, *map(str, self._groups)], environment=environment
        )
        self._leader = 0
        try:
            wait_until(self._has_booted, "systemd to boot")
        except BaseException:
            self.stop()
            raise

    def _has_booted(self) -> bool:
        assert self._spawner.running, self._spawner
        spawner = psutil.Process(self._spawner.pid)
        leaders = [child for child in spawner.children() if child.name() == "systemd"]
        if not leaders:
            return False
        self._leader = leaders[0].pid
        state = self.start("systemctl is-system-running")
        state.wait()
        return state.output.strip() in {"running", "degraded"}

    @property
    def root(self) -> Path:
        """Its files, as seen from here."""
        return Path(f"/proc/{self._leader}/root")

    def start(self, script: str, stdin: Input = None) -> Process:
        """Start a shell in it."""
        enter = ["nsenter", "--target", str(self._leader), "--all", "--"]
        home = ["env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        return Process([*enter, *home, "sh", "-euc", script], stdin=stdin)

    def run(self, script: str, stdin: Input = None) -> str:
        """Run commands that must go well, and return what they print."""
        process = self.start(script, stdin)
        assert process.wait() == Status.OK, process
        return process.output

    def stop(self) -> None:
        """Switch it off."""
        if self._leader:
            self.start("systemctl poweroff --force --force").wait()
        self._spawner.send_signal(signal.SIGTERM)
        try:
            self._spawner.wait(DEADLINE)
        finally:
            self._spawner.kill()
            for group in self._groups:
                for part in sorted(group.glob("**/"), reverse=True):
                    part.rmdir()
