"""Certificates: which are believed, and what their bearers may do."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest
import pytest_asyncio
from asyncssh.packet import String, UInt32, UInt64
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import AccessDenied, Outcome, StartError, UsageError
from pipe.ssh.login.certificates import judge, read_authorities, read_certificate
from pipe.ssh.login.signatures import certified_type, fingerprint_of, is_certificate, name_of
from tests.ssh.serving import Client, connect, refusal, run, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipe.service import Service

CA = asyncssh.generate_private_key("ssh-ed25519", comment="the CA")
STRANGER = asyncssh.generate_private_key("ssh-ed25519", comment="another CA")
KEY = asyncssh.generate_private_key("ssh-ed25519")
LINE, STRANGERS_LINE = (key.export_public_key().decode() for key in (CA, STRANGER))
ALL_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521", "ssh-rsa")
SOME_TIME = 1_700_000_000


def certify(
    key: asyncssh.SSHKey = KEY,
    ca: asyncssh.SSHKey = CA,
    **terms: Any,  # noqa: ANN401
) -> tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]:
    """Sign a key, for alice unless the terms say something else."""
    terms = {"principals": ["alice"], **terms}
    return key, ca.generate_user_certificate(key, "somebody's key", **terms)


def forge(
    critical: bytes = b"",
    extensions: bytes = b"",
    *,
    kind: int = 1,
    principals: bytes = String("alice"),
    tail: bytes = b"",
    signature: bytes = b"",
) -> bytes:
    """Build a certificate byte by byte, as no tool would."""
    body = String("ssh-ed25519-cert-v01@openssh.com") + String(os.urandom(32))
    body += KEY.public_data[len(String("ssh-ed25519")) :] + UInt64(7) + UInt32(kind)
    body += String("id") + String(principals) + UInt64(0) + UInt64(2**64 - 1)
    body += String(critical) + String(extensions) + String("") + String(CA.public_data)
    return body + String(signature or CA.sign(body, b"ssh-ed25519")) + tail


def verdict(blob: bytes, user: str = "alice", address: str = "192.0.2.7", now: float = 1e9) -> str:
    """What a certificate of our CA is refused for; empty if it is not."""
    try:
        certificate = read_certificate(blob)
        authorities = {fingerprint_of(CA.public_data)}
        judge(certificate, user=user, address=address, now=now, authorities=authorities)
    except AccessDenied as error:
        return error.message
    return ""


def write(path: Path, text: str | None) -> None:
    """Change a file, or remove it."""
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """The file of trusted CAs."""
    path = tmp_path / "ca.pub"
    path.write_text(f"# ours\n\n{LINE}")
    return path


@pytest_asyncio.fixture
async def opened(tmp_path: Path, ca_file: Path) -> AsyncIterator[Service]:
    """A server with sign-up that trusts the CA."""
    async with serving(tmp_path / "data", trusted_ca=ca_file) as service:
        yield service


@pytest_asyncio.fixture
async def closed(tmp_path: Path, ca_file: Path) -> AsyncIterator[Service]:
    """A server without sign-up that trusts the CA and knows alice."""
    async with serving(tmp_path / "data", trusted_ca=ca_file, signup="closed") as service:
        await service.store.add_user("alice", admin=True)
        yield service


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_reading(kind: str) -> None:
    """All that a certificate says is read, for each kind of key."""
    key = asyncssh.generate_private_key(kind)
    _, certificate = certify(
        key, serial=9, principals=["alice", "bob"], valid_after=SOME_TIME, valid_before="20400101"
    )
    blob = certificate.public_data
    assert is_certificate(name_of(blob))
    assert certified_type(name_of(blob)) == key.get_algorithm()
    read = read_certificate(blob)
    assert read.key == key.public_data
    assert (read.kind, read.serial, read.key_id) == (1, 9, "somebody's key")
    assert (read.principals, read.valid_after) == (("alice", "bob"), SOME_TIME)
    assert (read.authority, read.signature_algorithm) == (CA.public_data, "ssh-ed25519")
    assert set(read.extensions) >= {"permit-pty", "permit-port-forwarding"}


def test_forged_certificates_are_like_real_ones() -> None:
    """What these tests build by hand is what asyncssh reads, if nothing is wrong with it."""
    blob = forge()
    certificate = asyncssh.import_certificate(
        f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(blob).decode()}"
    )
    assert certificate.key.public_data == KEY.public_data
    assert verdict(blob) == ""


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (forge(principals=b""), "names no principal, so it is nobody's"),
        (forge(principals=String("bob")), "is for 'bob', not for 'alice'"),
        (forge(principals=String("alice2") + String("ALICE")), "is for 'alice2', 'ALICE', not"),
        (forge(principals=String("")), "is for '', not for"),
        (forge(principals=String("*")), "is for '*', not for"),
        (forge(principals=String("a\x1b[31m")), r"is for 'a\x1b[31m', not for"),
        (forge(kind=2), "not a user's but a host's"),
        (forge(kind=0), "not a user's but a host's"),
        (forge(String("verify-required") + String("")), "critical option 'verify-required'"),
        (forge(String("x\x1b") + String("")), r"critical option 'x\x1b'"),
        (forge(String("force-command") + String("x")), "force-command cannot be understood"),
        (forge(String("source-address") + String("")), "source-address cannot be understood"),
        (forge(String("source-address") + String(String("x"))), "cannot be understood"),
        (forge(String("source-address") + String(String(""))), "cannot be understood"),
        (forge(String("force-command")), "damaged"),
        (forge((String("force-command") + String(String("ls"))) * 2), "damaged"),
        (forge(tail=b"x"), "damaged"),
        (forge(signature=String("ssh-rsa") + String(b"")), "signed with 'ssh-rsa'"),
        (forge(signature=b"\xff\xff"), "signed with ''"),
        (forge()[:-100], "damaged"),
        (forge()[:40], "damaged"),
    ],
    ids=range(21),
)
def test_refused(blob: bytes, reason: str) -> None:
    """A certificate that leaves a doubt is refused, with a line that says which."""
    message = verdict(blob)
    assert reason in message
    assert message.isprintable()


def test_validity() -> None:
    """A certificate is good from its first second to before its last."""
    _, certificate = certify(valid_after=SOME_TIME, valid_before=SOME_TIME + 60)
    blob = certificate.public_data
    assert verdict(blob, now=SOME_TIME) == verdict(blob, now=SOME_TIME + 59.9) == ""
    assert verdict(blob, now=SOME_TIME - 0.1).endswith("is valid from 2023-11-14 22:13 UTC on")
    assert verdict(blob, now=SOME_TIME + 60).endswith("has expired at 2023-11-14 22:14 UTC")


def test_source_address() -> None:
    """A certificate with source-address is good from there only, IPv4 or IPv6."""
    _, certificate = certify(source_address=["192.0.2.0/24", "2001:db8::/32"])
    blob = certificate.public_data
    assert verdict(blob, address="192.0.2.200") == verdict(blob, address="2001:db8:9::1") == ""
    for address in ("192.0.3.1", "2001:db9::1", "::1"):
        assert verdict(blob, address=address) == f"the certificate may not be used from {address}"


def test_unknown_ca() -> None:
    """About a certificate of a CA that nobody trusts not a word is lost."""
    _, certificate = certify(ca=STRANGER)
    with pytest.raises(AccessDenied, match=r"^$"):
        judge(
            read_certificate(certificate.public_data),
            user="alice",
            address="::1",
            now=0,
            authorities={fingerprint_of(CA.public_data)},
        )


@given(st.data())
def test_junk(data: st.DataObject) -> None:
    """Whatever bytes come, they are read or refused."""
    blob = bytearray(forge(String("force-command") + String(String("ls"))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(len(String("ssh-ed25519-cert-v01@openssh.com")), len(blob)))
        blob[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    verdict(bytes(blob))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no public key in it"),
        ("# nothing\n", "there is no public key in it"),
        ("ssh-ed25519 AAAA", "line 1: "),
        (CA.export_public_key().decode() + "junk\n", "line 2: "),
        (f"{LINE.strip()} x\u2028{STRANGERS_LINE}", "line 1: there is more than one line"),
    ],
    ids=["empty", "comment", "junk", "key and junk", "key in a comment"],
)
async def test_bad_file_of_cas(tmp_path: Path, ca_file: Path, text: str, reason: str) -> None:
    """A file without a CA, or with a line that is none, stops the start."""
    with pytest.raises(UsageError, match=reason):
        read_authorities(text)
    write(ca_file, text)
    with pytest.raises(StartError) as caught:
        async with serving(tmp_path / "data", trusted_ca=ca_file):
            pass
    assert reason in caught.value.message
    assert caught.value.outcome is Outcome.UNAVAILABLE


async def test_no_file_of_cas(tmp_path: Path) -> None:
    """A file that is not there stops the start."""
    with pytest.raises(StartError, match="No such file"):
        async with serving(tmp_path / "data", trusted_ca=tmp_path / "none"):
            pass


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_login(closed: Service, kind: str) -> None:
    """A certified key logs in as its principal, known by the key's own fingerprint."""
    key = asyncssh.generate_private_key(kind)
    async with await connect(closed, "alice", certify(key)) as connection:
        answer = await run(connection, "whoami")
    assert "alice" in answer
    assert key.get_fingerprint() in answer
    assert await closed.store.list_keys() == ()


async def test_several_cas(closed: Service, ca_file: Path) -> None:
    """The file may name several CAs, and what is changed in it counts at the next login."""
    assert await refusal(closed, "alice", certify(ca=STRANGER)) == ""
    write(ca_file, LINE + STRANGERS_LINE)
    for ca in (CA, STRANGER):
        async with await connect(closed, "alice", certify(ca=ca)):
            pass
    write(ca_file, STRANGERS_LINE)
    assert await refusal(closed, "alice", certify(ca=CA)) == ""
    write(ca_file, None)
    assert await refusal(closed, "alice", certify(ca=STRANGER)) == ""


async def test_without_the_setting(tmp_path: Path) -> None:
    """A server that trusts no CA takes no certificate."""
    async with serving(tmp_path / "data", signup="closed") as service:
        await service.store.add_user("alice")
        assert await refusal(service, "alice", certify()) == ""


async def test_account_of_a_certified_user(opened: Service) -> None:
    """With sign-up the first login makes the account, and nobody can claim the name after it."""
    async with await connect(opened, "alice", certify()):
        pass
    assert [user.name for user in await opened.store.list_users()] == ["alice"]
    assert "is taken" in await refusal(opened, "alice", KEY)


async def test_certificate_without_an_account(closed: Service) -> None:
    """Without sign-up the operator decides who has an account, and takes it away for good."""
    message = await refusal(closed, "bob", certify(principals=["bob"]))
    assert "there is no user 'bob': the operator adds users with 'pipe user add'" in message
    async with await connect(closed, "alice", certify()):
        pass
    await closed.store.remove_user("alice")
    assert "there is no user 'alice'" in await refusal(closed, "alice", certify())


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"principals": []}, "names no principal"),
        ({"principals": ["bob"]}, "is for 'bob', not for 'alice'"),
        ({"valid_before": int(time.time()) - 1}, "has expired"),
        ({"valid_after": int(time.time()) + 10**8}, "is valid from"),
        ({"source_address": ["192.0.2.0/24"]}, "may not be used from 127.0.0.1"),
    ],
)
async def test_refused_login(closed: Service, terms: dict[str, Any], reason: str) -> None:
    """A client with a certificate that is not good is told why."""
    assert reason in await refusal(closed, "alice", certify(**terms))


async def test_bad_signature(closed: Service) -> None:
    """A certificate that says all the right things and was not signed by the CA lets nobody in."""

    class Forged(asyncssh.SSHKeyPair):
        """A key with a certificate that only looks like our CA's."""

        def __init__(self) -> None:
            blob = forge(signature=String("ssh-ed25519") + String(bytes(64)))
            algorithm = b"ssh-ed25519-cert-v01@openssh.com"
            super().__init__(algorithm, b"ssh-ed25519", (b"ssh-ed25519",), (algorithm,), blob, None)

        def sign(self, data: bytes) -> bytes:
            return KEY.sign(data, b"ssh-ed25519")

    with pytest.raises(asyncssh.PermissionDenied):
        await asyncssh.create_connection(
            Client,
            "127.0.0.1",
            closed.port,
            username="alice",
            client_keys=[Forged()],
            known_hosts=None,
            agent_path=None,
            config=None,
        )


async def test_bad_name_in_a_certificate(opened: Service) -> None:
    """A CA's word on a name outside the grammar does not make it one."""
    assert "root" in await refusal(opened, "root", certify(principals=["root"]))
    assert await opened.store.list_users() == ()


async def test_force_command(closed: Service) -> None:
    """A certificate with force-command runs that command, whatever the client asks for."""
    async with await connect(closed, "alice", certify(force_command="whoami")) as connection:
        for wanted in ("ls", "", None):
            result = await connection.run(wanted)
            assert "alice" in str(result.stdout), wanted


async def test_permit_pty(closed: Service) -> None:
    """A certificate without permit-pty gives no pseudo-terminal, and the command runs without."""
    async with await connect(closed, "alice", certify(permit_pty=True)) as connection:
        result = await connection.run("whoami", term_type="xterm")
        assert result.exit_status == 0
    async with await connect(closed, "alice", certify(permit_pty=False)) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.run("whoami", term_type="xterm")
        assert "alice" in await run(connection, "whoami")


async def test_weak_keys_are_not_certified(closed: Service) -> None:
    """A CA cannot make a weak key strong."""
    key = asyncssh.generate_private_key("ssh-rsa", key_size=1024)
    assert "RSA keys must have" in await refusal(closed, "alice", certify(key))
