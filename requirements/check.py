"""Says whether the lock files are in step with pyproject.toml, without asking the network.

A lock is in step if every direct dependency that it stands for is pinned in it to a version that
pyproject.toml allows, if every pin has a hash, and if it names no place to fetch from.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {
    "base": ((), (), True),
    "mesh": ((), ("postgres",), True),
    "dev": (("test", "lint", "bench"), (), True),
    "load": (("load",), (), False),
    "fuzz": (("fuzz",), (), False),
}
"""For each lock: dependency groups, extras, and whether the package's dependencies are in it."""

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;\\]+)")
PLACE = re.compile(r"://|(?:^|\s)(?:-[fi]\b|--(?:index|extra-index|find-links)|\.{0,2}/)")


def logical_lines(text: str) -> list[str]:
    """The lock's lines, each pin joined with its hashes, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def read_lock(path: Path) -> tuple[dict[str, set[Version]], list[str]]:
    """The versions pinned for each name (several if markers tell them apart), and complaints."""
    pins: dict[str, set[Version]] = {}
    complaints = []
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        if PLACE.search(line):
            complaints.append(f"{path.name}:{number}: names a place to fetch from: {line.strip()}")
    for line in logical_lines(text):
        found = PIN.match(line)
        if found is None:
            complaints.append(f"{path.name}: not a pin: {line.strip()}")
            continue
        name, version = found.groups()
        pins.setdefault(canonicalize_name(name), set()).add(Version(version))
        if "--hash=sha256:" not in line:
            complaints.append(f"{path.name}: {name} has no hash")
    return pins, complaints


def check() -> list[str]:
    """All that is out of step, one sentence each."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        pyproject = tomllib.load(file)
    complaints: list[str] = []
    locked: dict[str, dict[str, set[Version]]] = {}
    for lock, (groups, extras, with_package) in LOCKS.items():
        pins, found = read_lock(ROOT / "requirements" / f"{lock}.lock")
        locked[lock] = pins
        complaints += found
        wanted = list(pyproject["project"]["dependencies"]) if with_package else []
        for group in groups:
            wanted += pyproject["dependency-groups"][group]
        for extra in extras:
            wanted += pyproject["project"]["optional-dependencies"][extra]
        for requirement in map(Requirement, wanted):
            versions = pins.get(canonicalize_name(requirement.name), set())
            if not versions:
                complaints.append(f"{lock}.lock: {requirement.name} is missing")
            complaints += [
                f"{lock}.lock: {requirement.name} {version} is outside '{requirement}'"
                for version in sorted(versions)
                if not requirement.specifier.contains(version, prereleases=True)
            ]
    for lock, pins in locked.items():
        complaints += [
            f"{lock}.lock: {name} differs from base.lock"
            for name, versions in locked["base"].items()
            if name in pins and pins[name] != versions
        ]
    return complaints


if __name__ == "__main__":
    problems = check()
    print(*problems, sep="\n", end="\n" if problems else "")
    sys.exit("the locks are out of step: run `make lock`" if problems else 0)
