"""The image without Docker: its build as plain commands in a clean folder, then a run of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pipe import __version__

from .dockerfile import DOCKERFILE, STEP_TIMEOUT, Build, read_instructions
from .e2e.clients import KeyRing, openssh
from .e2e.processes import Process
from .e2e.server import Status, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(4 * STEP_TIMEOUT),
    pytest.mark.xdist_group("dockerfile"),
]

BOTH_PORTS: Final = r"\b%d\b.*\b%d\b.*\n"
"""In the one line that tells where the server listens."""


@pytest.fixture(scope="module")
def image() -> Iterator[Build]:
    """The finished image."""
    # Not pytest's folder, which nobody but its owner may enter: the image has a user of its own.
    directory = Path(tempfile.mkdtemp(prefix="pipe-image-"))
    try:
        directory.chmod(0o755)
        build = Build(directory)
        for instruction in read_instructions(DOCKERFILE.read_text(encoding="utf-8")):
            build.execute(instruction)
        yield build
    finally:
        shutil.rmtree(directory)


class Container:
    """A run of the image, with ports that are free here."""

    def __init__(self, image: Build, **settings: str) -> None:
        self.port = free_port()
        self.metrics_port = free_port()
        self._image = image
        self._environment = image.environment | {
            "PIPE_PORT": str(self.port),
            "PIPE_METRICS_PORT": str(self.metrics_port),
            "HOME": "/",
            **settings,
        }
        self._prefix = self._as_its_user()

    def _as_its_user(self) -> list[str]:
        """What starts a program as the image's user, where we may do so and it can reach Python."""
        if os.geteuid() != 0:
            return []
        user, _, group = self._image.config["USER"].text.partition(":")
        prefix = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--"]
        probe = [*prefix, "python", "-c", "import pipe"]
        ran = subprocess.run(
            probe,
            cwd=self._image.root,
            env=self._environment,
            capture_output=True,
            check=False,
        )
        if ran.returncode == 0:
            return prefix
        os.chown(self._image.place("/data"), 0, 0)  # Python is in a folder of root's own here
        return []

    def execute(self, *words: str, stdin: bytes | None = None) -> Process:
        """Start a program in it."""
        return Process(
            [*self._prefix, *words],
            stdin=stdin,
            environment=self._environment,
            directory=self._image.place("."),
        )

    def start(self) -> Process:
        """Start what the image starts, and return once it accepts."""
        config = self._image.config
        server = self.execute(*config["ENTRYPOINT"].words, *config["CMD"].words)
        try:
            server.wait_stderr(BOTH_PORTS % (self.port, self.metrics_port))
        except BaseException:
            server.kill()
            raise
        return server

    def check_health(self) -> int:
        """Run the health check."""
        kind, _, command = self._image.config["HEALTHCHECK"].text.partition(" ")
        assert kind == "CMD"
        return self.execute(*self._image.config["HEALTHCHECK"]._replace(text=command).words).wait()


def test_the_image_has_the_program(image: Build) -> None:
    """`pipe --version` is this version, out of the virtualenv of the image and nothing else."""
    container = Container(image)
    answer = container.execute("pipe", "--version")
    assert answer.wait() == Status.OK, answer
    assert answer.output == f"pipe {__version__}\n"
    place = container.execute("python", "-c", "import pipe; print(pipe.__file__)")
    assert place.wait() == Status.OK, place
    assert place.output.startswith(str(image.place("/opt/pipe")))
    assert not image.place("/src").exists()


def test_the_image_has_the_terminal(image: Build) -> None:
    """The build of the wheel brought xterm.js, with its licence; a checkout has none of it."""
    container = Container(image)
    ask = (
        "import pipe, pathlib; print(*sorted(pathlib.Path(pipe.__file__).parent.rglob('vendor/*')))"
    )
    answer = container.execute("python", "-c", ask)
    assert answer.wait() == Status.OK, answer
    names = {Path(path).name for path in answer.output.split()}
    assert names == {
        *("xterm.mjs", "xterm.css", "xterm.LICENSE"),
        *("addon-fit.mjs", "addon-fit.LICENSE"),
    }


def test_the_image_runs(image: Build, tmp_path: Path) -> None:
    """It serves, is healthy and takes users; SIGTERM ends it, and it is healthy no more."""
    container = Container(image)
    assert container.check_health() != Status.OK
    server = container.start()
    try:
        assert container.check_health() == Status.OK
        keys = KeyRing(tmp_path)
        added = container.execute(
            "pipe", "user", "add", "alice", "--key", "-", stdin=keys.public("alice")
        )
        assert added.wait() == Status.OK, added
        client = Process(openssh(container.port, keys.openssh("alice"), "alice", "whoami"))
        assert client.wait() == Status.OK, (client, server)
        assert "alice" in client.output
        stranger = Process(openssh(container.port, keys.openssh("bob"), "bob", "whoami"))
        assert stranger.wait() == Status.NO_CONNECTION
        server.send_signal(getattr(signal, image.config["STOPSIGNAL"].text))
        assert server.wait() == Status.OK, server
    finally:
        server.kill()
    assert container.check_health() != Status.OK
    kept = {path.name for path in image.place(image.config["VOLUME"].text).iterdir()}
    assert {"host_key", "pipe.db"} <= kept


def test_the_image_serves_http_when_it_is_told_to(image: Build) -> None:
    """Its port for HTTP is shut, and opens with the settings that docs/operations.md names."""
    shut = Container(image)
    server = shut.start()
    try:
        assert '"web": "none"' in server.text
    finally:
        server.kill()
    port = str(free_port())
    opened = Container(image, PIPE_WEB_PORT=port, PIPE_WEB_PROXIES="172.16.0.0/12")
    server = opened.start()
    try:
        answer = Process(["curl", "-sS", f"http://127.0.0.1:{port}/healthz"])
        assert answer.wait() == Status.OK, answer
        assert answer.output == "ok\n"
    finally:
        server.kill()


def test_the_image_is_run_by_nobody_special(image: Build) -> None:
    """It does not run as root, nor through a shell that would keep signals from the server."""
    assert image.config["USER"].text.partition(":")[0] not in {"", "0", "root"}
    for name in ("ENTRYPOINT", "CMD"):
        assert image.config[name].text.startswith("["), name
    assert image.place(image.config["VOLUME"].text).stat().st_mode & 0o777 == 0o700
