"""The check of the certificate for HTTPS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipe.check.findings import Level
from pipe.check.tls import check_tls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipe.settings import Settings


def certify(folder: Path, *names: str, begin: float = -1, end: float = 60) -> dict[str, object]:
    """Write a certificate and its key, and return the settings with them.

    Args:
        folder: Where to.
        names: The hosts that it is for.
        begin: The day from which on it counts, today being 0.
        end: The day on which it ends.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pipe")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today + timedelta(days=begin))
        .not_valid_after(today + timedelta(days=end))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    files = {"web_tls_cert": folder / "cert.pem", "web_tls_key": folder / "key.pem"}
    files["web_tls_cert"].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files["web_tls_key"].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    files["web_tls_key"].chmod(0o600)
    return {**files, "web_port": 8222, "web_url": "https://pipe.example.org"}


@pytest.mark.parametrize(
    ("begin", "end", "level", "said"),
    [
        (-1, 60, Level.OK, "ends on"),
        (-60, 5, Level.WARNING, "renew it"),
        (-60, -1, Level.ERROR, "ended on"),
        (1, 60, Level.ERROR, "is the clock right"),
    ],
)
def test_dates(
    make: Callable[..., Settings],
    tmp_path: Path,
    begin: float,
    end: float,
    level: Level,
    said: str,
) -> None:
    """A certificate that counts on no day, or soon on none, is told."""
    (found,) = check_tls(make(**certify(tmp_path, "pipe.example.org", begin=begin, end=end)))
    assert (found.level, said in found.text) == (level, True)


def test_names(make: Callable[..., Settings], tmp_path: Path) -> None:
    """It has to be for the host that links lead to; a star stands for one label."""
    assert len(list(check_tls(make(**certify(tmp_path, "*.example.org"))))) == 1
    found = list(check_tls(make(**certify(tmp_path, "example.org", "*.org"))))
    assert [one.level for one in found] == [Level.OK, Level.WARNING]
    assert "it is for *.org, example.org, and links lead to pipe.example.org" in found[1].text


def test_another_key(make: Callable[..., Settings], tmp_path: Path) -> None:
    """A key of another certificate is an error, as is a file that is not there."""
    other = tmp_path / "other"
    other.mkdir()
    settings = certify(tmp_path, "pipe.example.org")
    (found,) = check_tls(
        make(**settings | {"web_tls_key": certify(other, "pipe.example.org")["web_tls_key"]})
    )
    assert (found.level, "cannot use the certificate" in found.text) == (Level.ERROR, True)
    (found,) = check_tls(make(**settings | {"web_tls_key": tmp_path / "none"}))
    assert (found.level, "No such file" in found.text) == (Level.ERROR, True)


def test_open_key(make: Callable[..., Settings], tmp_path: Path) -> None:
    """A private key that others may read is told."""
    settings = certify(tmp_path, "pipe.example.org")
    (tmp_path / "key.pem").chmod(0o644)
    found = list(check_tls(make(**settings)))
    assert (found[-1].level, found[-1].about) == (Level.WARNING, "web-tls-key")
