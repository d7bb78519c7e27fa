"""What the checks look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder without anything in it."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def make(folder: Path) -> Callable[..., Settings]:
    """Makes settings that need no port and no network."""

    def make(**settings: object) -> Settings:
        fixed = {"data_dir": folder, "port": 0, "metrics_port": 0, "web_port": 0}
        return Settings.model_validate(fixed | settings)

    return make
