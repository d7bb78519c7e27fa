"""What the page has from others: locked, and not in git."""

from __future__ import annotations

import json
import subprocess

from tests.e2e.server import ROOT


def test_each_package_is_locked_by_its_hash() -> None:
    """One version, one SHA-512; from which registry it comes is not the lock's business."""
    wanted = json.loads((ROOT / "web/package.json").read_text(encoding="utf-8"))["dependencies"]
    packages = json.loads((ROOT / "web/package-lock.json").read_text(encoding="utf-8"))["packages"]
    del packages[""]
    locked = {name.removeprefix("node_modules/"): one["version"] for name, one in packages.items()}
    assert locked == wanted
    for one in packages.values():
        assert one["integrity"].startswith("sha512-")
        assert "resolved" not in one
        assert not one.get("hasInstallScript")


def test_nothing_of_it_is_in_git() -> None:
    """Neither what was fetched nor what npm leaves behind."""
    ran = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = ran.stdout.splitlines()
    assert files
    assert not [path for path in files if "vendor/" in path or "node_modules" in path]
