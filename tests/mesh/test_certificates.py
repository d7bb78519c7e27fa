"""Certificates of a mesh: what is made, for whom, and what is refused."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from pipe.cli import main
from pipe.errors import UsageError
from pipe.mesh.certificates import contexts, make

if TYPE_CHECKING:
    from pathlib import Path


def test_the_first_makes_the_ca(tmp_path: Path) -> None:
    """The first node's certificate makes the CA, the second is signed by the same one."""
    first, second = make("n1", tmp_path / "mesh"), make("n2", tmp_path / "mesh")
    assert (first.new_ca, second.new_ca) == (True, False)
    ca = x509.load_pem_x509_certificate(first.files.ca.read_bytes())
    for made in (first, second):
        certificate = x509.load_pem_x509_certificate(made.files.certificate.read_bytes())
        certificate.verify_directly_issued_by(ca)
        contexts(made.files)


def test_only_the_owner_reads_them(tmp_path: Path) -> None:
    """All files are for their owner alone."""
    make("n1", tmp_path / "mesh")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "mesh").iterdir()}
    assert modes == dict.fromkeys(("ca.pem", "ca.key", "n1.pem", "n1.key"), 0o600)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A node that has a certificate keeps it."""
    files = make("n1", tmp_path).files
    before = files.key.read_bytes()
    with pytest.raises(UsageError, match=r"n1\.pem is there already: move it away"):
        make("n1", tmp_path)
    assert files.key.read_bytes() == before


def test_a_ca_without_its_key(tmp_path: Path) -> None:
    """Where the CA's key is kept elsewhere nothing can be signed, and no new CA is made."""
    make("n1", tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(UsageError, match=r"ca\.key: No such file"):
        make("n2", tmp_path)


def test_the_command_says_what_to_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command names the files, what the CA's key is worth, and how to start the server."""
    folder = tmp_path / "mesh"
    assert main(["mesh", "certificate", "n1", "--ca", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"keep {folder}/ca.key where no server is" in said
    assert f"    {folder}/ca.pem {folder}/n1.pem {folder}/n1.key\n" in said
    assert "--mesh-ca ca.pem --mesh-cert n1.pem --mesh-key n1.key --node n1" in said
    assert main(["mesh", "certificate", "n2", "--ca", str(folder)]) == 0
    assert "CA of a new mesh" not in capsys.readouterr().out


def test_a_bad_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no node can have is refused before anything is made."""
    assert main(["mesh", "certificate", "../n1", "--ca", str(tmp_path / "mesh")]) == 64
    assert "no name of a node" in capsys.readouterr().err
    assert not (tmp_path / "mesh").exists()
