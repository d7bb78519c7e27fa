"""The certificates of a mesh: makes them, and reads them for links.

Whoever has a certificate of the mesh's CA is a node and is trusted with everything, so the CA is
one of its own and signs nothing else.
"""

from __future__ import annotations

import datetime
import os
import ssl
from typing import TYPE_CHECKING, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipe.errors import StartError, UsageError
from pipe.language.names import escape

if TYPE_CHECKING:
    from pathlib import Path

CA_DAYS = 3650
NODE_DAYS = 825
"""Two years and a quarter, after which the largest browsers would trust none either; `pipe check`
warns in time."""

_MODE = 0o600
_FOLDER_MODE = 0o700
_EARLIER = datetime.timedelta(hours=1)
"""How far another node's clock may be behind when a certificate is made."""


class MeshFiles(NamedTuple):
    """The PEM files that one node has."""

    ca: Path
    certificate: Path
    key: Path


class Made(NamedTuple):
    """What was made.

    Attributes:
        files: of the node.
        until: the last day of the certificate.
        new_ca: whether the CA is new too.
    """

    files: MeshFiles
    until: datetime.date
    new_ca: bool


def make(name: str, folder: Path) -> Made:
    """Make a node's certificate and key, and the CA if the folder has none.

    Args:
        name: the node's.
        folder: where the CA is, and where the files are written: ``NAME.pem``, ``NAME.key``.

    Raises:
        UsageError: a file cannot be read or written, or is there already.
    """
    files = MeshFiles(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        for file in files[1:]:
            if file.exists():
                raise UsageError(
                    f"{escape(str(file))} is there already: move it away, or choose another name"
                )
        new_ca = not (files.ca.exists() or (folder / "ca.key").exists())
        if new_ca:
            _make_ca(files.ca, folder / "ca.key")
        ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
        ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
            raise UsageError(f"{escape(str(folder / 'ca.key'))} is not a key that this made")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign_node(name, key, ca, ca_key)
        _write(files.key, _pem(key))
        _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        shown = escape(str(error.filename or folder))
        raise UsageError(f"cannot make a certificate: {shown}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"cannot read the CA in {escape(str(folder))}: {escape(str(error))}"
        ) from error
    return Made(files, certificate.not_valid_after_utc.date(), new_ca)


def explain(name: str, made: Made) -> str:
    """Say what was made, what to copy where, and what to start a server with."""
    ca, certificate, key = (escape(str(file)) for file in made.files)
    lines = []
    if made.new_ca:
        secret = escape(str(made.files.ca.with_name("ca.key")))
        lines.append(
            f"made the CA of a new mesh: keep {secret} where no server is;"
            " whoever has it can join the mesh and read everything"
        )
    return "\n".join(
        [
            *lines,
            f"made {certificate} and {key}, valid until {made.until:%Y-%m-%d}",
            f"copy these to {name}, for the server's user alone (mode 0600):",
            f"    {ca} {certificate} {key}",
            "and start it with:",
            f"    --mesh HOST:PORT --mesh-ca ca.pem --mesh-cert {name}.pem --mesh-key {name}.key"
            f" --node {name}",
        ]
    )


def contexts(files: MeshFiles) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return what accepts links and what opens them; both ask for a certificate of the mesh's CA.

    Names are not compared here: any node may be reached by any address.

    Raises:
        StartError: a file cannot be used.
    """
    made = []
    for purpose in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(purpose)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.ca)
            context.load_cert_chain(files.certificate, files.key)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(escape(str(file)) for file in files)
            reason = getattr(error, "strerror", None) or error
            raise StartError(f"cannot use the mesh's certificates {names}: {reason}") from error
        made.append(context)
    return made[0], made[1]


def ends_of(files: MeshFiles) -> dict[Literal["node", "ca"], float]:
    """When the certificates of a node end, in seconds since 1970.

    Raises:
        StartError: one cannot be read.
    """
    ends: dict[Literal["node", "ca"], float] = {}
    names: tuple[Literal["node", "ca"], ...] = ("node", "ca")
    for name, file in zip(names, (files.certificate, files.ca), strict=True):
        try:
            found = x509.load_pem_x509_certificates(file.read_bytes())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StartError(f"cannot read {escape(str(file))}: {reason}") from error
        ends[name] = min(one.not_valid_after_utc.timestamp() for one in found)
    return ends


def _make_ca(certificate: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("pipe mesh")
    built = (
        _begin(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _pem(key))
    _write(certificate, built.public_bytes(serialization.Encoding.PEM))


def _sign_node(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _begin(_name(name), ca.subject, key.public_key(), NODE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    """Write a new file that nobody else could ever read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
