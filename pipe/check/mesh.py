"""The mesh: do its settings fit together, and are its certificates good?"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pipe.check.files import closed_to_others
from pipe.check.findings import Finding, error, ok, warning
from pipe.errors import SettingsError, StartError
from pipe.language.names import escape
from pipe.mesh.certificates import contexts
from pipe.mesh.configuration import MeshConfiguration, read_mesh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.settings import Settings

_SOON = datetime.timedelta(days=30)
"""A new certificate has to be copied by somebody, and the node restarted."""


def check_mesh(settings: Settings) -> Iterator[Finding]:
    """Look at the settings of the mesh, if there are any."""
    try:
        mesh = read_mesh(settings)
        if mesh is None:
            return
        contexts(mesh.files)
    except (SettingsError, StartError) as problem:
        yield error("mesh", problem.message)
        return
    yield _check_certificate(mesh)
    if not closed_to_others(mesh.files.key):
        yield warning(
            "mesh-key",
            f"{escape(str(mesh.files.key))} is open to others: chmod 600 it, and if somebody may"
            " have read it, make a new CA and new certificates for all nodes",
        )


def _check_certificate(mesh: MeshConfiguration) -> Finding:
    about, remedy = "mesh-cert", f"make a new one with 'pipe mesh certificate {mesh.node}'"
    certificate = x509.load_pem_x509_certificate(mesh.files.certificate.read_bytes())
    ca = x509.load_pem_x509_certificate(mesh.files.ca.read_bytes())
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return error(about, f"mesh-ca has not signed it: {remedy}")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if mesh.node not in names.get_values_for_type(x509.DNSName):
        return error(about, f"it is not for the node {mesh.node}: {remedy}, or give its --node")
    end = certificate.not_valid_after_utc
    left = end - datetime.datetime.now(datetime.UTC)
    if left <= datetime.timedelta():
        return error(about, f"it ended on {end:%Y-%m-%d}: {remedy}")
    if left < _SOON:
        return warning(about, f"it ends on {end:%Y-%m-%d}: {remedy}")
    return ok(about, f"it is for the node {mesh.node}, and ends on {end:%Y-%m-%d}")
