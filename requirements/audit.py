"""Asks whether a locked version has a known weakness; part of `make audit`.

pip-audit looks every package up in PyPI's database of advisories.  It leaves out what it cannot
look up and is content, so here the packages that were left out are counted: where that is all of
them the database was not there, and nothing has been said about the versions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = ("base.lock", "mesh.lock", "dev.lock", "load.lock", "fuzz.lock")
TIMEOUT_SECONDS = 300


def main() -> int:
    """Audit each lock; 1 where there is an advisory, 0 with a word where nothing could be asked."""
    status = 0
    for name in LOCKS:
        lock = Path(__file__).with_name(name)
        packages = _audit(lock)
        asked = [package for package in packages if "skip_reason" not in package]
        if not asked:
            print(f"{name}: not audited, the database of advisories cannot be reached")
            continue
        left_out = len(packages) - len(asked)
        print(f"{name}: {len(asked)} packages audited, {left_out} not found in the database")
        for package in asked:
            for advisory in package["vulns"]:
                fixed = ", ".join(advisory["fix_versions"]) or "no version"
                print(
                    f"  {package['name']} {package['version']}: {advisory['id']}, mended in {fixed}"
                )
                status = 1
    return status


def _audit(lock: Path) -> list[dict[str, Any]]:
    """pip-audit's findings; none where it could not even begin."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    options = ["--format", "json", "--progress-spinner", "off", "--timeout", "10", "-r", str(lock)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    try:
        findings: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return []
    return findings


if __name__ == "__main__":
    sys.exit(main())
