"""OpenSSH's user certificates: a CA says whose a key is, and for how long.

OpenSSH's PROTOCOL.certkeys defines the format.  This reads and checks a certificate; asyncssh
verifies the CA's signature afterwards, so nothing here about a certificate is proved yet.  It is
stricter than asyncssh: a certificate must name a principal, and the CA's signature must not be RSA
over SHA-1.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asyncssh.packet import PacketDecodeError, SSHPacket, String

from pipe.errors import AccessDenied, UsageError
from pipe.language.names import quoted
from pipe.ssh.login.restrictions import Restrictions
from pipe.ssh.login.signatures import SIGNATURE_ALGORITHMS, certified_type, fingerprint_of, name_of
from pipe.store import read_public_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

USER_CERTIFICATE = 1
"""The type of a user certificate; a host certificate has 2."""

_KEY_FIELDS = {
    "ssh-ed25519": 1,
    "sk-ssh-ed25519@openssh.com": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
    "ssh-rsa": 2,
}
"""How many strings (or integers, which look the same) make up a public key."""

_FORCE_COMMAND = "force-command"
_SOURCE_ADDRESS = "source-address"
_KNOWN_OPTIONS = frozenset({_FORCE_COMMAND, _SOURCE_ADDRESS})
_PERMIT_PTY = "permit-pty"
_PERMIT_FORWARDING = "permit-port-forwarding"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says."""

    key: bytes
    """The certified public key, in the protocol's form."""
    kind: int
    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    """Seconds since 1970, like ``valid_before``, the moment when it expires."""
    valid_before: int
    critical_options: Mapping[str, bytes]
    extensions: Mapping[str, bytes]
    authority: bytes
    """The CA's public key."""
    signature_algorithm: str


def read_certificate(blob: bytes) -> Certificate:
    """Read a certificate.

    Args:
        blob: In the protocol's form, of a type that `is_certificate` knows.

    Raises:
        AccessDenied: It cannot be parsed.
    """
    key_type = certified_type(name_of(blob))
    packet = SSHPacket(blob)
    try:
        packet.get_string()  # its own type
        packet.get_string()  # a nonce
        fields = [packet.get_string() for _ in range(_KEY_FIELDS[key_type])]
        certificate = Certificate(
            key=String(key_type) + b"".join(map(String, fields)),
            serial=packet.get_uint64(),
            kind=packet.get_uint32(),
            key_id=packet.get_string().decode(),
            principals=tuple(name.decode() for name in _strings(packet.get_string())),
            valid_after=packet.get_uint64(),
            valid_before=packet.get_uint64(),
            critical_options=_pairs(packet.get_string()),
            extensions=_pairs(packet.get_string()),
            authority=_second_string(packet),
            signature_algorithm=name_of(packet.get_string()),
        )
        packet.check_end()
    except (PacketDecodeError, ValueError) as error:
        raise AccessDenied("the certificate is damaged") from error
    return certificate


def judge(
    certificate: Certificate,
    *,
    user: str,
    address: str,
    now: float,
    authorities: Collection[str],
) -> Restrictions:
    """Check whether a certificate, if its signature is good, lets a user log in.

    Args:
        certificate: The certificate.
        user: The name that the client logs in under.
        address: The client's IP address.
        now: Seconds since 1970.
        authorities: The fingerprints of the trusted CAs.

    Returns:
        The limits on its sessions.

    Raises:
        AccessDenied: It does not; the message says why, and is empty if the CA is unknown.
    """
    if fingerprint_of(certificate.authority) not in authorities:
        raise AccessDenied("")
    if certificate.signature_algorithm not in SIGNATURE_ALGORITHMS:
        algorithm = quoted(certificate.signature_algorithm)
        raise AccessDenied(
            f"the certificate is signed with {algorithm}, which is not safe any more"
        )
    if certificate.kind != USER_CERTIFICATE:
        raise AccessDenied("the certificate is not a user's but a host's")
    _check_principals(certificate.principals, user)
    if now < certificate.valid_after:
        raise AccessDenied(f"the certificate is valid from {_date(certificate.valid_after)} on")
    if now >= certificate.valid_before:
        raise AccessDenied(f"the certificate has expired at {_date(certificate.valid_before)}")
    unknown = certificate.critical_options.keys() - _KNOWN_OPTIONS
    if unknown:
        name = quoted(min(unknown))
        raise AccessDenied(f"the certificate has the critical option {name}, unknown here")
    _check_address(certificate.critical_options.get(_SOURCE_ADDRESS), address)
    return Restrictions(
        command=_command(certificate.critical_options.get(_FORCE_COMMAND)),
        pty=_PERMIT_PTY in certificate.extensions,
        forwarding=_PERMIT_FORWARDING in certificate.extensions,
        certified_addresses=_addresses(certificate.critical_options.get(_SOURCE_ADDRESS)),
    )


def read_authorities(text: str) -> frozenset[str]:
    """Read the file of trusted CAs: one public key per line, as in sshd's ``TrustedUserCAKeys``.

    Returns:
        Their fingerprints.

    Raises:
        UsageError: A line is not a key that may sign, or there are none; the message says which.
    """
    found = set()
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.add(read_public_key(line).fingerprint)
            except UsageError as error:
                raise UsageError(f"line {number}: {error.message}") from error
    if not found:
        raise UsageError("there is no public key in it")
    return frozenset(found)


def _check_principals(principals: tuple[str, ...], user: str) -> None:
    """Check that it names this user; OpenSSH lets one without names be anybody's."""
    if not principals:
        raise AccessDenied("the certificate names no principal, so it is nobody's")
    if user not in principals:
        names = ", ".join(quoted(name) for name in principals[:3])
        more = ", …" if principals[3:] else ""
        raise AccessDenied(f"the certificate is for {names}{more}, not for {quoted(user)}")


def _addresses(option: bytes | None) -> str:
    return "" if option is None else _only_string(option).decode("ascii")


def _check_address(option: bytes | None, address: str) -> None:
    if option is None:
        return
    try:
        text = _addresses(option)
        networks = [ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",")]
        allowed = any(ipaddress.ip_address(address) in network for network in networks)
    except (PacketDecodeError, ValueError) as error:
        raise AccessDenied("the certificate's source-address cannot be understood") from error
    if not allowed:
        raise AccessDenied(f"the certificate may not be used from {address}")


def _command(option: bytes | None) -> str | None:
    if option is None:
        return None
    try:
        return _only_string(option).decode()
    except (PacketDecodeError, ValueError) as error:
        raise AccessDenied("the certificate's force-command cannot be understood") from error


def _strings(data: bytes) -> list[bytes]:
    packet = SSHPacket(data)
    found = []
    while packet:
        found.append(packet.get_string())
    return found


def _pairs(data: bytes) -> dict[str, bytes]:
    """Read options: names and values, each name once.

    Raises:
        ValueError: A name has two values, and another reader might take the other one.
    """
    strings = _strings(data)
    names = [name.decode("ascii") for name in strings[::2]]
    pairs = dict(zip(names, strings[1::2], strict=True))
    if len(pairs) != len(names):
        raise ValueError("an option is given twice")
    return pairs


def _only_string(data: bytes) -> bytes:
    (value,) = _strings(data)
    return value


def _second_string(packet: SSHPacket) -> bytes:
    """Skip the reserved field."""
    packet.get_string()
    return packet.get_string()


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return "a time beyond all calendars"
