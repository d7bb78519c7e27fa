"""Where the load goes: to a server that somebody names, or to a fresh one of this run's own."""

from __future__ import annotations

import atexit
import collections
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final, NamedTuple

HOST: Final = "127.0.0.1"
ACCOUNT: Final = "load"


class Target(NamedTuple):
    """The server, and the key that logs in there."""

    host: str
    port: int
    user: str
    key: Path

    def command(self, words: str) -> list[str]:
        """What runs `words` on the server, with none of the machine's own configuration."""
        options = (
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
        )
        settings = [word for option in options for word in ("-o", option)]
        place = ["-i", str(self.key), "-p", str(self.port), f"{self.user}@{self.host}"]
        return ["ssh", "-F", "none", *settings, *place, words]


class FreshServer:
    """A server of this run's own, with its data in a temporary folder, ended with the run."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pipe-load-"))
        self._lines: collections.deque[str] = collections.deque(maxlen=20)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipe", "serve", "--host", HOST, "--port", "0"),
                *("--data-dir", str(self._folder / "data"), "--signup", "open"),
                *("--metrics-port", "0", "--log-format", "json"),
                *(["--lane", lane] if (lane := os.environ.get("LOAD_LANE")) else []),
            ],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for Locust, which then ends the server
        )
        atexit.register(self.stop)
        self.target = Target(HOST, self._wait_port(), ACCOUNT, self._make_key())
        threading.Thread(target=self._drain, daemon=True).start()

    def _wait_port(self) -> int:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "serving":
                    return int(entry["ssh"].rpartition(":")[2])
        sys.exit(f"the server did not start:\n{''.join(self._lines)}")

    def _drain(self) -> None:
        assert self._process.stderr is not None
        self._lines.extend(self._process.stderr)  # keeps the last lines

    def _make_key(self) -> Path:
        key = self._folder / "key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return key

    def introduce(self) -> None:
        """Claim the account, so that its first sessions do not race for it."""
        subprocess.run(self.target.command("version"), check=True, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        """End it; a second call does nothing."""
        atexit.unregister(self.stop)
        early = self._process.poll()
        if early is None:
            self._process.send_signal(signal.SIGINT)
            self._process.send_signal(signal.SIGTERM)  # the second one: do not wait for streams
            self._process.wait()
        else:
            print(f"the server ended by itself, with status {early}:\n{''.join(self._lines)}")
        shutil.rmtree(self._folder, ignore_errors=True)
