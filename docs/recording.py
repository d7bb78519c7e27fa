"""Record `docs/session.svg`: what three terminals show while a file goes to two readers.

Everything in the picture was printed by the real thing: a server, bash on three pseudo terminals,
and the `ssh` that they call.  Only the clock is made up, so that typing looks like typing and each
recording of the same session is the same file.  It is played by CSS alone; where that is not
supported, or motion is not wanted, the picture shows the end.

    python docs/recording.py [--port PORT] [--output FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
PUBLIC_HOST: Final = "pipe.example.org"
FILM_BYTES: Final = 32 << 20
DEADLINE: Final = 240.0
"""Seconds after which a step that has not happened is an error."""

PROMPT: Final = "$ "

# The clock of the picture, in seconds.
KEY_SECONDS: Final = 0.055
THINK_SECONDS: Final = 0.7
ANSWER_SECONDS: Final = 0.35
LINE_SECONDS: Final = 0.12
REST_SECONDS: Final = 5.0

# Its measures, in pixels.
CHARACTER: Final = 7.8
FONT_SIZE: Final = 13
LINE_HEIGHT: Final = 19
PADDING: Final = 14
TITLE_HEIGHT: Final = 30
GAP: Final = 12

# Its colours keep their contrast on a page of any colour, for every pane has its own background.
STYLE: Final = f"""
text {{ font: {FONT_SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; fill: #d5dbe3; white-space: pre }}
.pane {{ fill: #14191f; stroke: #4b5563 }}
.title {{ fill: #9aa4b2 }}
.prompt {{ fill: #7ee2a8; font-weight: bold }}
.typed {{ fill: #ffffff }}
.status {{ fill: #e3c07b }}
.cover {{ fill: #14191f }}
.caret {{ fill: #7ee2a8 }}
"""


class RecordingError(Exception):
    """The session did not go as it should; the message says where."""


@dataclass
class Line:
    """A line on a terminal, and when it is seen."""

    text: str
    seen_at: float
    typed_from: float = 0.0
    typed_until: float | None = None
    """None for what a program printed, and for a prompt at which nothing was typed."""


@dataclass
class Pane:
    """A bash on a pseudo terminal, and its place in the picture."""

    title: str
    columns: int
    rows: int
    x: int
    y: int
    lines: list[Line] = field(default_factory=list)
    pid: int = 0
    terminal: int = -1
    unread: str = ""

    @property
    def width(self) -> int:
        """In pixels."""
        return round(self.columns * CHARACTER) + 2 * PADDING

    @property
    def height(self) -> int:
        """In pixels."""
        return TITLE_HEIGHT + self.rows * LINE_HEIGHT + PADDING

    def start(self, folder: Path, programs: Path) -> None:
        """Start its bash in `folder`, where `programs` come first."""
        environment = {
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PS1": PROMPT,
            "TERM": "dumb",
        }
        bash = shutil.which("bash") or "/bin/bash"
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(bash, ["bash", "--noprofile", "--norc", "--noediting", "-i"], environment)

    def send(self, keys: str) -> None:
        """Type."""
        os.write(self.terminal, keys.encode())

    def read_until(self, end: str) -> list[str]:
        """The lines printed since the last call, up to and with the first that begins with `end`.

        What follows `end` is for the next call, however much of it has come by then.
        """
        deadline = time.monotonic() + DEADLINE
        while not (found := re.search(rf"(?:\A|\n){re.escape(end)}", self.unread)):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                raise RecordingError(f"{self.title}: no {end!r} after {self.unread!r}")
            self.unread += os.read(self.terminal, 1 << 16).decode()
        text, self.unread = self.unread[: found.end()], self.unread[found.end() :]
        if "\x1b" in text:
            raise RecordingError(f"{self.title}: an escape sequence in {text!r}")
        return text.split("\r\n")

    def stop(self) -> None:
        """End its bash and what that runs, as closing a window does."""
        if self.pid:
            os.close(self.terminal)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGHUP)
            os.waitpid(self.pid, 0)


class Session:
    """The panes, and the clock that runs while things happen in them."""

    def __init__(self, panes: list[Pane]) -> None:
        self.panes = panes
        self.seconds = 0.0
        for pane in panes:
            self._prompt(pane)

    def type(self, pane: Pane, command: str) -> None:
        """Type a command, and press return."""
        self.seconds += THINK_SECONDS
        line = pane.lines[-1]
        line.text += command
        line.typed_from = self.seconds
        self.seconds += KEY_SECONDS * len(command)
        line.typed_until = self.seconds
        pane.send(command + "\n")
        pane.read_until(f"{command}\r\n")  # the terminal's echo

    def answer(self, pane: Pane) -> None:
        """Wait for what the command prints, and for the prompt behind it."""
        self.seconds += ANSWER_SECONDS
        self._prompt(pane)

    def run(self, pane: Pane, command: str) -> None:
        """Type a command and wait for its end."""
        self.type(pane, command)
        self.answer(pane)

    def _prompt(self, pane: Pane) -> None:
        for text in pane.read_until(PROMPT):
            pane.lines.append(Line(text, self.seconds))
            if text != PROMPT:
                self.seconds += LINE_SECONDS
        if len(pane.lines) > pane.rows or max(len(each.text) for each in pane.lines) > pane.columns:
            raise RecordingError(
                f"{pane.title}: more than {pane.columns} by {pane.rows} characters"
            )


def play(panes: list[Pane], ssh: Path) -> Session:
    """Let the session happen."""
    one, two, writer = panes
    session = Session(panes)
    for reader in (one, two):
        session.type(reader, "ssh pipe sub film > film.mkv")
    wait_for_subscribers(ssh, 2)
    session.run(writer, "ssh pipe ls")
    session.run(writer, "ssh pipe pub film < film.mkv")
    for reader in (one, two):
        session.answer(reader)
    for pane in (writer, one, two):
        session.run(pane, "sha1sum film.mkv")
    return session


def wait_for_subscribers(ssh: Path, wanted: int) -> None:
    """Return once the topic has so many; the readers' terminals do not show when they have come."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        listing = subprocess.run(
            [ssh, "pipe", "ls", "--json"],
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        ).stdout
        if any(json.loads(line)["subscribers"] == wanted for line in listing.splitlines()):
            return
        time.sleep(0.1)
    raise RecordingError(f"never {wanted} subscribers")


@contextlib.contextmanager
def serving(port: int, data: Path) -> Iterator[None]:
    """A server that accepts connections."""
    words = [sys.executable, "-m", "pipe", "serve", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--public-host", PUBLIC_HOST, "--data-dir", str(data), "--metrics-port", "0"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PIPE_")
    }
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            said = ""
            while " serving " not in said:
                line = server.stderr.readline()
                if not line:
                    raise RecordingError(f"the server did not start: {said.strip()}")
                said += line
            yield
        finally:
            server.terminate()
            server.communicate()


def prepare(folder: Path, programs: Path, port: int) -> Path:
    """Write the key, the configuration and an `ssh` that reads it; return the latter."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    config = folder / "config"
    config.write_text(
        "Host pipe\n HostName 127.0.0.1\n User alice\n"
        f" Port {port}\n IdentityFile {key}\n IdentitiesOnly yes\n IdentityAgent none\n"
        f" StrictHostKeyChecking accept-new\n UserKnownHostsFile {folder}/known_hosts\n"
        " LogLevel ERROR\n BatchMode yes\n"
    )
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    ssh.chmod(0o755)
    subprocess.run([ssh, "pipe", "whoami"], check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE)
    return ssh


def record(port: int) -> Session:
    """Start everything, let the session happen, and end everything."""
    top = Pane("a reader", 54, 4, 1, 1), Pane("another reader", 54, 4, 0, 1)
    top[1].x = top[0].x + top[0].width + GAP
    columns = int((2 * top[0].width + GAP - 2 * PADDING) / CHARACTER)
    writer = Pane("the writer", columns, 9, 1, top[0].y + top[0].height + GAP)
    panes = [*top, writer]
    with tempfile.TemporaryDirectory(prefix="recording") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(serving(port, folder / "data"))
        ssh = prepare(folder, folder / "bin", port)
        for number, pane in enumerate(panes):
            home = folder / f"home{number}"
            home.mkdir()
            stack.callback(pane.stop)
            pane.start(home, ssh.parent)
        (folder / "home2" / "film.mkv").write_bytes(random.Random(1).randbytes(FILM_BYTES))
        return play(panes, ssh)


def draw(session: Session) -> str:
    """The picture, as SVG."""
    film = Film(session.seconds + REST_SECONDS)
    body = [part for pane in session.panes for part in draw_pane(pane, film)]
    width = 1 + max(pane.x + pane.width for pane in session.panes)
    height = 1 + max(pane.y + pane.height for pane in session.panes)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img" xml:space="preserve">',
        "<title>One file goes to two readers through pipe</title>",
        f"<style>{STYLE}@media (prefers-reduced-motion: no-preference) {{",
        *film.rules,
        "}</style>",
        *body,
        "</svg>",
        "",
    ])  # fmt: skip


class Film:
    """The animations of all parts: one for each moment at which something is first seen."""

    def __init__(self, seconds: float) -> None:
        self.rules: list[str] = []
        self._seconds = seconds
        self._names: dict[str, str] = {}

    def appears(self, at: float) -> str:
        """The class of what is not seen before `at`."""
        return self._animate(f"0%{{opacity:0}}{self._part(at)}{{opacity:1}}")

    def types(self, line: Line, distance: float, keys: int) -> str:
        """The class of the caret, with the cover behind it that uncovers the keys one by one."""
        assert line.typed_until is not None
        return self._animate(
            f"0%{{opacity:0}}{self._part(line.seen_at)}{{opacity:1;transform:none}}"
            f"{self._part(line.typed_from)}{{opacity:1;transform:none;"
            f"animation-timing-function:steps({keys},end)}}"
            f"{self._part(line.typed_until)}{{opacity:0;transform:translateX({distance:.1f}px)}}"
            "100%{opacity:0}"
        )

    def _part(self, at: float) -> str:
        return f"{100 * at / self._seconds:.2f}%"

    def _animate(self, frames: str) -> str:
        if frames not in self._names:
            name = f"a{len(self._names)}"
            self._names[frames] = name
            self.rules.append(f"@keyframes {name} {{{frames}}}")
            self.rules.append(
                f".{name} {{animation: {name} {self._seconds:.2f}s step-end infinite}}"
            )
        return self._names[frames]


def draw_pane(pane: Pane, film: Film) -> Iterator[str]:
    """Its window, and its lines."""
    clip = f"clip{pane.x}-{pane.y}"
    frame = f'x="{pane.x}" y="{pane.y}" width="{pane.width}" height="{pane.height}" rx="7"'
    yield f'<clipPath id="{clip}"><rect {frame}/></clipPath>'
    yield f'<rect class="pane" {frame}/>'
    left, top = pane.x + PADDING, pane.y + TITLE_HEIGHT
    yield f'<text class="title" x="{left}" y="{pane.y + 20}">{pane.title}</text>'
    yield f'<g clip-path="url(#{clip})">'
    for number, line in enumerate(pane.lines):
        yield from draw_line(line, left, top + number * LINE_HEIGHT, film)
    yield "</g>"


def draw_line(line: Line, left: int, top: int, film: Film) -> Iterator[str]:
    """Its text, and what shows that somebody types it."""
    base = top + FONT_SIZE + 1
    shown = film.appears(line.seen_at)
    start = left + len(PROMPT) * CHARACTER
    if not line.text.startswith(PROMPT):
        kind = " status" if line.text.startswith("pipe: ") else ""
        yield text_of(line.text, left, base, shown + kind)
        return
    yield text_of(PROMPT.strip(), left, base, f"{shown} prompt")
    command = line.text.removeprefix(PROMPT)
    if line.typed_until is None:
        yield caret(start, top, shown)
        return
    yield text_of(command, start, base, f"{shown} typed")
    distance = len(command) * CHARACTER
    moving = film.types(line, distance, len(command))
    cover = f'y="{top}" width="{distance + CHARACTER:.1f}" height="{LINE_HEIGHT}"'
    yield f'<g class="{moving}" opacity="0"><rect class="cover" x="{start:.1f}" {cover}/>'
    yield caret(start, top, "")
    yield "</g>"


def text_of(text: str, x: float, y: float, classes: str) -> str:
    """A text that is as wide as it should be, whatever font the reader has."""
    width = f'textLength="{len(text) * CHARACTER:.1f}"' if text else ""
    return f'<text class="{classes}" x="{x:.1f}" y="{y}" {width}>{escape(text)}</text>'


def caret(x: float, top: int, classes: str) -> str:
    """The block at which one types."""
    return (
        f'<rect class="caret {classes}" x="{x:.1f}" y="{top + 2}" width="{CHARACTER}"'
        f' height="{LINE_HEIGHT - 4}"/>'
    )


def main() -> int:
    """Record, and write the picture."""
    parser = argparse.ArgumentParser(description="Record a session of real terminals as SVG.")
    parser.add_argument("--port", type=int, default=2222, help="of the server that is started")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "session.svg")
    options = parser.parse_args()
    try:
        picture = draw(record(options.port))
    except RecordingError as error:
        sys.stderr.write(f"recording: {error}\n")
        return 1
    options.output.write_text(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
