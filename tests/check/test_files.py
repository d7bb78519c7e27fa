"""The check of the server's folder and files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipe.check.files import check_files
from pipe.check.findings import Level
from pipe.ssh.server import load_host_key
from pipe.store.web_key import load_web_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipe.check import Finding
    from pipe.settings import Settings


def look(settings: Settings) -> dict[str, Finding]:
    """All findings by what they are about."""
    return {finding.about: finding for finding in check_files(settings)}


def test_first_start(make: Callable[..., Settings], tmp_path: Path) -> None:
    """A folder that is not there yet is fine if it can be made, and is not made."""
    (found,) = check_files(make(data_dir=tmp_path / "a" / "b"))
    assert found.level is Level.OK
    assert "the first start makes it" in found.text
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_folder_below_a_file(make: Callable[..., Settings], tmp_path: Path) -> None:
    """A folder that cannot be made is an error, and so is a file in its place."""
    file = tmp_path / "file"
    file.touch()
    for place, said in ((file, "is not a folder"), (file / "data", "cannot be made")):
        (found,) = check_files(make(data_dir=place))
        assert found.level is Level.ERROR
        assert said in found.text


def test_good_files(make: Callable[..., Settings]) -> None:
    """The fingerprint of the host key is told, and the web key is whole."""
    settings = make()
    key = load_host_key(settings.host_key_path)
    load_web_key(settings.web_key_path)
    found = look(settings)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert key.get_fingerprint() in found["host key"].text


def test_open_files(make: Callable[..., Settings], folder: Path) -> None:
    """Whatever others may read or write is named, with chmod; and it stays as it is."""
    settings = make()
    load_host_key(settings.host_key_path)
    load_web_key(settings.web_key_path)
    for path in (settings.host_key_path, settings.web_key_path):
        path.chmod(0o644)
    folder.chmod(0o777)
    found = look(settings)
    assert {finding.level for finding in found.values()} == {Level.WARNING}
    assert all("chmod" in finding.text for finding in found.values())
    assert settings.host_key_path.stat().st_mode & 0o777 == 0o644


def test_damaged_keys(make: Callable[..., Settings], folder: Path) -> None:
    """Keys that cannot be read are errors, in the words of the start."""
    for name in ("host_key", "web_key"):
        (folder / name).write_bytes(b"no key")
        (folder / name).chmod(0o600)
    found = look(make())
    assert found["host key"].level is found["web key"].level is Level.ERROR
    assert "restore it from a backup" in found["host key"].text


def test_lost_keys(make: Callable[..., Settings], folder: Path) -> None:
    """A database without keys beside it has lost them: clients would be warned of an impostor."""
    assert look(make())["host key"].level is Level.OK
    (folder / "pipe.db").touch()
    found = look(make())
    assert found["host key"].level is found["web key"].level is Level.WARNING
    assert not (folder / "host_key").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can look as somebody else")
def test_folder_of_somebody_else(make: Callable[..., Settings], folder: Path) -> None:
    """Root is told to check as the server's user, and a user that the folder is another's."""
    os.chown(folder, 65534, 65534)
    assert "runuser -u nobody -- pipe check" in look(make())["data-dir"].text
    os.chown(folder, 0, 0)
    os.seteuid(65534)
    try:
        (found,) = check_files(make())
    finally:
        os.seteuid(0)
    assert found.level is Level.ERROR


def test_key_files_and_authorities(make: Callable[..., Settings], tmp_path: Path) -> None:
    """The folder of key files and the file of CAs are read as the start reads them."""
    keys, authorities = tmp_path / "keys", tmp_path / "cas"
    settings = make(authorized_keys=keys, trusted_ca=authorities)
    found = look(settings)
    assert found["authorized-keys"].level is found["trusted-ca"].level is Level.ERROR
    keys.mkdir(mode=0o700)
    key = load_host_key(tmp_path / "ca")
    authorities.write_bytes(key.export_public_key())
    found = look(settings)
    assert found["authorized-keys"].level is found["trusted-ca"].level is Level.OK
