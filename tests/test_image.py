"""The image, built and run by podman: what docs/operations.md says of a container.

tests/test_dockerfile.py carries out the same steps without any of that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .dockerfile import STEP_TIMEOUT
from .e2e.clients import KeyRing, openssh
from .e2e.processes import Process, wait_until
from .e2e.server import Status, free_port
from .podman import BUILD, Podman, base_name, make_root, skip_without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(4 * STEP_TIMEOUT),
    pytest.mark.xdist_group("image"),
]


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """One that has the image ``pipe``."""
    skip_without()
    folder = tmp_path_factory.mktemp("podman")
    podman = Podman(folder)
    try:
        if not podman.pull(base_name()):
            podman.load(make_root(folder), base_name())
        podman.run("build", *BUILD, "-t", "pipe", ".")
        yield podman
    finally:
        podman.reset()


class Container:
    """A server with its folder in the volume ``pipe-data``."""

    def __init__(self, podman: Podman) -> None:
        self._podman = podman
        self.port = free_port()
        settings = {"PIPE_PORT": self.port, "PIPE_METRICS_PORT": free_port()}
        podman.run(
            *("run", "-d", "--name", "pipe", "--network", "host", "--log-driver", "k8s-file"),
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
