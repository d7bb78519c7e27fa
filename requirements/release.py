"""Makes what a release is made of, in dist/: part of `make release`.  Signs and uploads nothing.

It refuses to build from a tree that is not clean, with locks that are out of step, or for a version
that CHANGELOG.md does not tell of or that has a tag already.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from check import check as check_locks
from sbom import sbom_text

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"

HEADING = re.compile(r"^## \[(.+?)\](?: - (\S+))?$", re.MULTILINE)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")

NEXT = """
What to do next, once it has been looked at:

    git tag -s v{version} -m "pipe {version}" && git push origin v{version}
    cd dist && sha256sum pipe_server-{version}* > SHA256SUMS && gpg --armor --detach-sign SHA256SUMS
    uv publish pipe_server-{version}.tar.gz pipe_server-{version}-py3-none-any.whl

then publish the signature and the SBOM beside them, and set the next version in pyproject.toml.
"""


def check_changelog(text: str, version: str) -> list[str]:
    """Say what is missing in the changelog for this version."""
    found = list(HEADING.finditer(text))
    ends = [*(heading.start() for heading in found[1:]), len(text)]
    parts = {
        heading[1]: (heading[2] or "", text[heading.end() : end].strip())
        for heading, end in zip(found, ends, strict=False)
    }
    complaints = []
    if parts.get("Unreleased", ("", ""))[1]:
        complaints.append(
            f"CHANGELOG.md: there is something under Unreleased: move it under [{version}] - DATE"
        )
    date, told = parts.get(version, ("", ""))
    if not told:
        complaints.append(
            f"CHANGELOG.md: nothing is told of {version}, the version in pyproject.toml"
        )
    elif not DATE.fullmatch(date):
        complaints.append(
            f"CHANGELOG.md: [{version}] has no date, as in: ## [{version}] - 2030-01-31"
        )
    return complaints


def check_tree(root: Path, version: str) -> list[str]:
    """Say what keeps the checkout from being what the tag will name."""
    complaints = []
    if changed := _git(root, "status", "--porcelain"):
        shown = ", ".join(line[3:] for line in changed.splitlines()[:5])
        complaints.append(f"the tree is not clean: commit or remove {shown}")
    if _git(root, "tag", "--list", f"v{version}"):
        complaints.append(f"v{version} is tagged already: set another version in pyproject.toml")
    return complaints


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=root, check=True, capture_output=True, text=True
    ).stdout.rstrip()


def build(version: str) -> list[Path]:
    """Build the source archive, from that the wheel, and write the SBOM beside them.

    Both bring the documentation along, which the server shows.
    """
    subprocess.run([sys.executable, ROOT / "docs" / "site.py"], check=True)
    if DIST.exists():
        shutil.rmtree(DIST)
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--quiet", "--out-dir", DIST, ROOT], check=True)
    sbom = DIST / f"pipe_server-{version}.cdx.json"
    sbom.write_text(sbom_text(), encoding="utf-8")
    return sorted(path for path in DIST.iterdir() if path.name.startswith("pipe_server-"))


def main() -> int:
    """Check, build, and say what comes next."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    complaints = [
        *check_changelog(changelog, version),
        *check_tree(ROOT, version),
        *check_locks(),
    ]
    if complaints:
        print(*complaints, sep="\n", file=sys.stderr)
        return 1
    for path in build(version):
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    print(NEXT.format(version=version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
