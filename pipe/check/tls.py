"""The certificate for HTTPS: does it fit its key, the name and the day?"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509

from pipe.check.files import closed_to_others
from pipe.check.findings import Finding, error, ok, warning
from pipe.errors import StartError
from pipe.language.names import escape
from pipe.web.tls import Certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.settings import Settings

_SOON = timedelta(days=14)
"""Whoever renews a certificate of 90 days does so 30 before its end."""


def check_tls(settings: Settings) -> Iterator[Finding]:
    """Look at the certificate, if there is one."""
    file = settings.web_tls_cert
    if not file or not settings.web_port:
        return
    about = "web-tls-cert"
    try:
        Certificate(file, settings.web_tls_key)
        certificate = x509.load_pem_x509_certificates(file.read_bytes())[0]
    except StartError as problem:
        yield error(about, f"{problem.message}: it takes a PEM file with the chain, and its key")
        return
    except (OSError, ValueError) as problem:
        yield error(about, f"cannot read {escape(str(file))}: {escape(str(problem))}")
        return
    yield _check_dates(about, certificate)
    yield from _check_name(about, settings, certificate)
    key = settings.web_tls_key or file
    if not closed_to_others(key):
        yield warning("web-tls-key", f"{escape(str(key))} is open to others: chmod 600")


def _check_dates(about: str, certificate: x509.Certificate) -> Finding:
    now = datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        return error(about, f"it ended on {end:%Y-%m-%d}: renew it; no restart is needed")
    if now < begin:
        return error(about, f"it begins on {begin:%Y-%m-%d %H:%M} UTC only: is the clock right?")
    if end - now < _SOON:
        return warning(about, f"it ends on {end:%Y-%m-%d}: renew it; no restart is needed")
    return ok(about, f"it fits its key, and ends on {end:%Y-%m-%d}")


def _check_name(about: str, settings: Settings, certificate: x509.Certificate) -> Iterator[Finding]:
    host = urlsplit(settings.resolved_web_url).hostname or ""
    names = _names(certificate)
    rest = host.partition(".")[2]
    if host not in names and not (rest and f"*.{rest}" in names):
        shown = ", ".join(map(escape, sorted(names)[:5])) or "no name"
        yield warning(
            about,
            f"it is for {shown}, and links lead to {host}: set --web-url to a name of its",
        )


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    addresses: list[object] = [
        address
        for address in names.get_values_for_type(x509.IPAddress)
        if isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address))
    ]
    domains = names.get_values_for_type(x509.DNSName)
    return {*map(str.lower, domains), *map(str, addresses)}
