"""The image, built and run by podman: what docs/operations.md says of a container.

tests/test_dockerfile.py carries out the same steps without any of that.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from .dockerfile import DOCKERFILE, STEP_TIMEOUT, read_instructions
from .e2e.clients import KeyRing, openssh
from .e2e.processes import Process, wait_until
from .e2e.server import ROOT, Status, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(4 * STEP_TIMEOUT),
    pytest.mark.xdist_group("image"),
]

PULL_SECONDS: Final = 60.0

TRUSTED: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
"""What this machine reaches package registries with."""


class Podman:
    """Podman with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._words = ["podman", "--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self._words += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        if shutil.which("runc"):  # others want control groups of one version
            self._words += ["--runtime", "runc"]

    def start(self, *words: str, stdin: bytes | None = None) -> Process:
        """Start it with these words."""
        return Process([*self._words, *words], stdin=stdin, directory=ROOT)

    def run(self, *words: str, stdin: bytes | None = None, timeout: float = STEP_TIMEOUT) -> str:
        """Have it do what must go well, and return what it prints."""
        process = self.start(*words, stdin=stdin)
        assert process.wait(timeout) == Status.OK, process
        return process.output


def base_name() -> str:
    """The image that ours begins with."""
    [argument] = [one for one in read_instructions(DOCKERFILE.read_text()) if "PYTHON" in one.text][
        :1
    ]
    return f"docker.io/library/python:{argument.text.partition('=')[2]}"


def make_base(podman: Podman, folder: Path) -> None:
    """Make what stands for that image, out of Debian's packages: the same release and Python."""
    *_, release = base_name().split("-")
    packages = "--include=python3,python3-venv,ca-certificates"
    root = folder / "base"
    subprocess.run(
        ["debootstrap", "--variant=minbase", packages, release, root],
        check=True,
        timeout=STEP_TIMEOUT,
    )
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for name in TRUSTED:
        if Path(name).exists():
            shutil.copy(name, root / name.lstrip("/"))
    subprocess.run(["tar", "-C", root, "-cf", folder / "base.tar", "."], check=True)
    trust = [f"ENV {name}={TRUSTED[0]}" for name in ("NODE_EXTRA_CA_CERTS", "npm_config_cafile")]
    changes = [word for line in trust for word in ("--change", line)]
    podman.run("import", *changes, str(folder / "base.tar"), base_name())


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """One that has the image ``pipe``."""
    missing = [name for name in ("podman", "debootstrap") if not shutil.which(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("only root makes a base image, where none can be fetched")
    folder = tmp_path_factory.mktemp("podman")
    podman = Podman(folder)
    try:
        pulled = podman.start("pull", "--quiet", base_name())
        try:
            fetched = pulled.wait(PULL_SECONDS) == Status.OK
        except AssertionError:
            pulled.kill()
            fetched = False
        if not fetched:
            make_base(podman, folder)
        podman.run(
            "build",
            "--pull=never",
            "--network=host",
            "--isolation=chroot",
            "-t",
            "pipe",
            "--format=docker",
            ".",
        )
        yield podman
    finally:
        podman.start("system", "reset", "--force").wait()


class Container:
    """A server with its folder in the volume ``pipe-data``."""

    def __init__(self, podman: Podman) -> None:
        self._podman = podman
        self.port = free_port()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        settings = {"PIPE_PORT": self.port, "PIPE_METRICS_PORT": free_port()}
        podman.run(
            *("run", "-d", "--name", "pipe", "--network", "host", "--log-driver", "k8s-file"),
            *("--ulimit", f"nofile={most}:{most}", "--ulimit", "nproc=1000:1000"),
            *("--read-only", "--cap-drop", "ALL", "-v", "pipe-data:/data"),
            *(word for name, value in settings.items() for word in ("-e", f"{name}={value}")),
            "pipe",
        )
        try:
            wait_until(self.is_healthy, "a healthy container")
        except BaseException:
            self.remove()
            raise

    def is_healthy(self) -> bool:
        """What the image's own check says."""
        return self._podman.start("healthcheck", "run", "pipe").wait() == Status.OK

    def execute(self, *words: str, stdin: bytes | None = None) -> str:
        """Run a program in it."""
        return self._podman.run("exec", "-i", "pipe", *words, stdin=stdin)

    def log(self) -> str:
        """What it has logged."""
        process = self._podman.start("logs", "pipe")
        assert process.wait() == Status.OK
        return process.text

    def stop(self) -> str:
        """Stop it, and return its exit status."""
        self._podman.run("stop", "--time", "45", "pipe")
        return self._podman.run("inspect", "pipe", "--format", "{{.State.ExitCode}}").strip()

    def remove(self) -> None:
        """Take it away; the volume stays."""
        self._podman.run("rm", "--force", "pipe")


def test_a_container(podman: Podman, tmp_path: Path) -> None:
    """It serves from a file system that cannot be written to, with no right at all.

    It is healthy, logs JSON, takes users that are added beside it, and stops in order.  The next
    one has its key and its accounts.
    """
    keys = KeyRing(tmp_path)
    host_keys = set()
    for number in range(2):
        container = Container(podman)
        try:
            assert container.execute("id", "-u").strip() == "10001"
            inside = podman.start("exec", "pipe", "touch", "/opt/pipe/x")
            assert inside.wait() != Status.OK
            if not number:
                add = ("pipe", "user", "add", "alice", "--key", "-")
                assert "added user alice" in container.execute(*add, stdin=keys.public("alice"))
            events = [json.loads(line)["event"] for line in container.log().splitlines()]
            assert "serving" in events
            scan = Process(["ssh-keyscan", "-t", "ed25519", "-p", str(container.port), "127.0.0.1"])
            assert scan.wait() == Status.OK, scan
            host_keys.add(scan.output.split()[-1])
            key = keys.openssh("alice")
            reader = Process(openssh(container.port, key, "alice", "sub greetings"))
            writer = Process(
                openssh(container.port, key, "alice", "pub greetings"), stdin=b"hello\n"
            )
            assert (writer.wait(), reader.wait()) == (Status.OK, Status.OK), (writer, reader)
            assert reader.output == "hello\n"
            assert container.stop() == "0"
        finally:
            container.remove()
    assert len(host_keys) == 1
