"""Podman with a store of its own, and images of Debian's packages where none can be fetched."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from .dockerfile import DOCKERFILE, STEP_TIMEOUT, read_instructions
from .e2e.processes import Process
from .e2e.server import ROOT, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

PULL_SECONDS: Final = 60.0

TRUSTED: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
"""What this machine reaches package registries with."""

BUILD: Final = ("--pull=never", "--network=host", "--isolation=chroot", "--format=docker")
"""How an image is built by a root who has not all rights."""

TASKS: Final = 1000
"""Of a container, where a root who has not all rights cannot give it as many as Podman wants to."""


class Podman:
    """Podman with a store and networks of its own.

    Attributes:
        program: what calls it.
        files: the most descriptors that a container can have here.
    """

    def __init__(self, folder: Path) -> None:
        words = ["podman", "--root", str(folder / "store"), "--runroot", str(folder / "run")]
        words += ["--network-config-dir", str(folder / "networks")]
        words += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        if shutil.which("runc"):  # others want control groups of one version
            words += ["--runtime", "runc"]
        self.files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limits = [f"nofile={self.files}:{self.files}", f"nproc={TASKS}:{TASKS}"]
        settings = folder / "containers.conf"
        settings.write_text(f"[containers]\ndefault_ulimits = {limits}\n")
        self.program = folder / "podman"
        self.program.write_text(
            f'#!/bin/sh\nCONTAINERS_CONF={settings} exec {shlex.join(words)} "$@"\n'
        )
        self.program.chmod(0o755)

    def start(self, *words: str, stdin: bytes | None = None) -> Process:
        """Start it with these words."""
        return Process([str(self.program), *words], stdin=stdin, directory=ROOT)

    def run(self, *words: str, stdin: bytes | None = None, timeout: float = STEP_TIMEOUT) -> str:
        """Have it do what must go well, and return what it prints."""
        process = self.start(*words, stdin=stdin)
        assert process.wait(timeout) == Status.OK, process
        return process.output

    def pull(self, name: str) -> bool:
        """Fetch an image; whether that is possible here."""
        process = self.start("pull", "--quiet", name)
        try:
            return process.wait(PULL_SECONDS) == Status.OK
        except AssertionError:
            process.kill()
            return False

    def load(self, root: Path, name: str) -> None:
        """Make an image of some files."""
        archive = root.with_suffix(".tar")
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        trust = [
            f"ENV {name}={TRUSTED[0]}" for name in ("NODE_EXTRA_CA_CERTS", "npm_config_cafile")
        ]
        changes = [word for line in trust for word in ("--change", line)]
        self.run("import", *changes, str(archive), name)

    def reset(self) -> None:
        """Throw all away: containers, volumes, networks and images."""
        self.start("system", "reset", "--force").wait()


def skip_without(*programs: str) -> None:
    """Skip the test where images cannot be made."""
    missing = [name for name in ("podman", "debootstrap", *programs) if not shutil.which(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("only root makes a base image, where none can be fetched")


def base_name() -> str:
    """The image that ours begins with."""
    [argument] = [one for one in read_instructions(DOCKERFILE.read_text()) if "PYTHON" in one.text][
        :1
    ]
    return f"docker.io/library/python:{argument.text.partition('=')[2]}"


def make_root(folder: Path, packages: Sequence[str] = ()) -> Path:
    """Make the files of what stands for that image, of Debian's packages: its release and Python.

    Args:
        folder: where they are put.
        packages: what more is in it.
    """
    *_, release = base_name().split("-")
    included = ",".join(("python3", "python3-venv", "ca-certificates", *packages))
    root = folder / "base"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={included}", release, root],
        check=True,
        timeout=STEP_TIMEOUT,
    )
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for name in TRUSTED:
        if Path(name).exists():
            shutil.copy(name, root / name.lstrip("/"))
    return root
