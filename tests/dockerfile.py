"""Enough of a Docker build to run our Dockerfile's steps as plain commands, in a folder of our own.

Absolute paths of the image are moved below a root folder.  The image's Python is the one that runs
the tests.  An instruction that this does not know fails, so that none is passed over in silence.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from .e2e.clients import bare_environment
from .e2e.server import ROOT

DOCKERFILE: Final = ROOT / "Dockerfile"
IGNORED: Final = ROOT / ".dockerignore"

STEP_TIMEOUT: Final = 900.0
"""Seconds: a step may download all dependencies."""

MOVED: Final = ("/opt/pipe", "/data", "/src")
"""The image's folders that stand somewhere else here."""


class Instruction(NamedTuple):
    """One instruction, its continued lines joined."""

    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The text as words: those of the exec form, or as a shell would split them."""
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return shlex.split(self.text)


def read_instructions(text: str) -> list[Instruction]:
    """Every instruction of a Dockerfile, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            flags = {}
            while match := re.match(r"\s*--([a-z-]+)=(\S+)", rest):
                flags[match[1]] = match[2]
                rest = rest[match.end() :]
            found.append(Instruction(name.upper(), flags, rest.strip()))
    return found


def copy_context(target: Path) -> None:
    """Copy what the build may see: what `.dockerignore`, a list of exceptions to ``*``, lets in."""
    ignore, *rules = IGNORED.read_text(encoding="utf-8").splitlines()
    assert ignore == "*", "the build sees more than it should"
    for rule in rules:
        if rule.startswith("!"):
            for source in ROOT.glob(rule[1:]):
                place = target / source.relative_to(ROOT)
                place.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy2(source, place)


class Build:
    """A build: the context, the stages that are done, and the root folder of the one that runs.

    A stage's root is always at the same place, as it is in Docker: a virtualenv knows its own path.
    """

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.config: dict[str, Instruction] = {}
        self.environment: dict[str, str] = {}
        self._directory = directory
        self._context = directory / "context"
        self._names: list[str] = []
        self._folder = PurePosixPath("/")
        copy_context(self._context)

    def execute(self, instruction: Instruction) -> None:
        """Carry out one instruction, or keep what only says how the image is run."""
        match instruction.name:
            case "ARG":
                pass
            case "FROM":
                self._begin_stage(instruction.words)
            case "ENV":
                self._set_environment(instruction.words)
            case "WORKDIR":
                self._folder = PurePosixPath(instruction.text)
                self.place(".").mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(instruction)
            case "RUN":
                self._run(instruction.text)
            case "USER" | "VOLUME" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                self.config[instruction.name] = instruction
            case other:
                raise AssertionError(f"this build knows no {other}")

    def place(self, path: str) -> Path:
        """Where a path of the image is, one that is not absolute being below the working folder."""
        return self.root / (self._folder / path).relative_to("/")

    def moved(self, text: str) -> str:
        """The text with the image's own folders as they are called here."""
        names = "|".join(map(re.escape, MOVED))
        return re.sub(rf"(?<![\w./])({names})(?![\w-])", rf"{self.root}\1", text)

    def _begin_stage(self, words: list[str]) -> None:
        if self.root.exists():
            self.root.rename(self._directory / self._names[-1])
        self._names.append(words[2] if words[1:2] == ["AS"] else f"stage{len(self._names)}")
        self.config.clear()
        self._folder = PurePosixPath("/")
        # The base image: an interpreter and a shell, and no virtualenv.
        programs = self.root / "usr/local/bin"
        programs.mkdir(parents=True)
        interpreter = f"python{sys.version_info.major}.{sys.version_info.minor}"
        (programs / "python").symlink_to(Path(sys.base_prefix, "bin", interpreter))
        self.environment = {
            name: value
            for name, value in bare_environment().items()
            if name not in {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}
        } | {"PATH": f"{programs}:/usr/bin:/bin"}

    def _set_environment(self, words: list[str]) -> None:
        for word in words:
            name, _, value = word.partition("=")
            self.environment[name] = self.moved(value).replace("$PATH", self.environment["PATH"])
        # Keeps a layer small; here it would only make every run download everything again.
        self.environment.pop("PIP_NO_CACHE_DIR", None)

    def _copy(self, instruction: Instruction) -> None:
        stage = instruction.flags.get("from")
        *sources, target = instruction.words
        for source in sources:
            found = (
                self._directory / stage / source.lstrip("/") if stage else self._context / source
            )
            place = self.place(target)
            if found.is_dir():
                shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True)
            else:
                if target.endswith("/"):
                    place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, place)
            if os.geteuid() == 0 and "chown" in instruction.flags:
                user, _, group = instruction.flags["chown"].partition(":")
                os.chown(place, int(user), int(group))

    def _run(self, text: str) -> None:
        ran = subprocess.run(
            ["/bin/sh", "-euc", self.moved(text)],
            cwd=self.place("."),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_TIMEOUT,
            check=False,
        )
        assert ran.returncode == 0, f"RUN {text}\n{ran.stdout}"
