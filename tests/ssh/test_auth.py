"""Logins: who is at the other end, for clients that behave and for those that do not."""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import asyncssh
import pytest
import pytest_asyncio
from asyncssh.constants import MSG_CHANNEL_REQUEST
from asyncssh.packet import Boolean, MPInt, String
from cryptography.hazmat.primitives.asymmetric import rsa

from pipe.ssh.login.logins import OTHERS_KEY_TEXT
from pipe.store import read_public_key

from .serving import FAILURE, KEY_IS_GOOD, SUCCESS, RawClient, connect, refusal, run, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pipe.service import Service

T = TypeVar("T")

ALICES = asyncssh.generate_private_key("ssh-ed25519", comment="alice's")
BOBS = asyncssh.generate_private_key("ssh-ed25519", comment="bob's")
OTHER = asyncssh.generate_private_key("ssh-ed25519")
RSA = asyncssh.generate_private_key("ssh-rsa", key_size=2048)


@pytest_asyncio.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Service]:
    """A server without sign-up, which knows alice and bob."""
    async with serving(tmp_path / "data", signup="closed") as service:
        for user, key in (("alice", ALICES), ("bob", BOBS)):
            public = read_public_key(key.export_public_key().decode())
            await service.store.add_user(user, keys=[public])
        yield service


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Service]:
    """A server with sign-up, which knows nobody."""
    async with serving(tmp_path / "data") as service:
        yield service


def children(folder: Path) -> list[Path]:
    """What is in a folder."""
    return list(folder.iterdir())


async def raw(service: Service, talk: Callable[[RawClient], T]) -> T:
    """Let a raw client talk to the server, on a thread of its own."""

    def session() -> T:
        with closing(RawClient(service.port)) as client:
            return talk(client)

    return await asyncio.to_thread(session)


async def test_key_of_a_user(closed: Service) -> None:
    """A key logs its user in and nobody else, and the session knows both."""
    async with await connect(closed, "alice", ALICES) as connection:
        answer = await run(connection, "whoami")
    assert "alice" in answer
    assert ALICES.get_fingerprint() in answer
    assert await refusal(closed, "bob", ALICES) == ""
    assert await refusal(closed, "carol", ALICES) == ""


async def test_admin(closed: Service) -> None:
    """Whether the user is an admin reaches the one who judges access."""
    public = read_public_key(OTHER.export_public_key().decode())
    await closed.store.add_user("carol", admin=True, keys=[public])
    async with (
        await connect(closed, "alice", ALICES) as hers,
        await connect(closed, "carol", OTHER) as admins,
    ):
        for connection in (hers, admins):
            process = await connection.create_process("pub inbox")
            await process.stderr.readline()  # it waits: so it is there
        admin = {session.caller.user: session.caller.admin for session in closed.sessions}
    assert admin == {"alice": False, "carol": True}


async def test_repeated_logins_do_not_wait_for_the_database(
    closed: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its second login on a key is let in without a look into the database."""
    async with await connect(closed, "alice", ALICES):
        pass
    await closed.store.flush_uses()
    async with await connect(closed, "alice", ALICES):
        pass

    async def never(_work: object) -> None:
        raise AssertionError

    monkeypatch.setattr(closed.store.database, "read", never)
    monkeypatch.setattr(closed.store.database, "write", never)
    for _ in range(3):
        async with await connect(closed, "alice", ALICES):
            pass


async def test_last_use(closed: Service) -> None:
    """A login is noted at its key, and not that of a key that was only shown."""
    async with await connect(closed, "alice", OTHER, ALICES):
        pass
    keys = await closed.store.list_keys()
    assert {key.user: key.last_used is not None for key in keys} == {"alice": True, "bob": False}


async def test_removed_key(closed: Service) -> None:
    """A key that was removed does not log in again."""
    async with await connect(closed, "alice", ALICES):
        pass
    await closed.store.remove_key("alice", ALICES.get_fingerprint())
    assert await refusal(closed, "alice", ALICES) == ""


async def test_claim(opened: Service) -> None:
    """A new key gets a free name; a taken name is refused with a line that says so."""
    async with await connect(opened, "alice", ALICES) as connection:
        assert "alice" in await run(connection, "whoami")
    taken = await refusal(opened, "alice", BOBS)
    assert taken == "pipe: the name 'alice' is taken, and this key is not one of its keys\r\n"
    assert await refusal(opened, "bob", ALICES) == f"pipe: {OTHERS_KEY_TEXT}\r\n"
    assert [user.name for user in await opened.store.list_users()] == ["alice"]


@pytest.mark.parametrize("name", ["root", "Alice"])
async def test_name_that_nobody_can_have(closed: Service, name: str) -> None:
    """Who forgot the name, so that it is that of a local user, is told where to write it."""
    told = await refusal(closed, name, ALICES)

    assert told.startswith(f"pipe: user name '{name}' ")
    assert told.endswith(", as in ssh NAME@HOST\r\n")


async def test_two_keys_for_one_name(opened: Service) -> None:
    """Of clients that claim a name at the same instant exactly one gets it, with its own key."""
    for number in range(10):
        name = f"user{number}"
        keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(4)]
        outcomes = await asyncio.gather(
            *(connect(opened, name, key) for key in keys), return_exceptions=True
        )
        won = [
            (connection, key)
            for connection, key in zip(outcomes, keys, strict=True)
            if isinstance(connection, asyncssh.SSHClientConnection)
        ]
        assert len(won) == 1, outcomes
        connection, key = won[0]
        assert key.get_fingerprint() in await run(connection, "whoami")
        connection.close()
        (stored,) = await opened.store.list_keys(name)
        assert stored.fingerprint == key.get_fingerprint()


async def test_one_key_for_one_name_at_once(opened: Service) -> None:
    """Whoever claims a name over several connections at once is let in on all of them."""
    connections = await asyncio.gather(*(connect(opened, "alice", ALICES) for _ in range(4)))
    for connection in connections:
        connection.close()


async def test_one_key_for_two_names(opened: Service) -> None:
    """A key that claims several names at once gets one."""
    outcomes = await asyncio.gather(
        *(connect(opened, f"user{number}", ALICES) for number in range(4)), return_exceptions=True
    )
    assert sum(isinstance(one, asyncssh.SSHClientConnection) for one in outcomes) == 1
    assert len(await opened.store.list_users()) == 1


async def test_squatter_loses_a_key_to_its_owner(opened: Service) -> None:
    """Who adds another's public key keeps that person neither from a name nor from the key."""
    async with await connect(opened, "mallory", OTHER) as squatter:
        for key in (ALICES, BOBS):
            await squatter.run("keys add", input=key.export_public_key().decode(), check=True)
        async with await connect(opened, "alice", ALICES) as alice:
            assert ALICES.get_fingerprint() in await run(alice, "whoami")
            await alice.run("keys add", input=BOBS.export_public_key().decode(), check=True)
        async with await connect(opened, "alice", BOBS) as alice:
            assert BOBS.get_fingerprint() in await run(alice, "whoami")
        assert await refusal(opened, "mallory", BOBS) != ""
        assert OTHER.get_fingerprint() in await run(squatter, "keys")
        (left,) = await opened.store.list_keys("mallory")
    assert left.fingerprint == OTHER.get_fingerprint()


async def test_key_that_another_proves_at_the_same_moment(
    opened: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has named a key, and logs in with it when another has it already, is refused."""
    for user in ("alice", "bob"):
        await opened.store.add_user(user)
        await opened.store.add_key(
            user, read_public_key(OTHER.export_public_key().decode()), proved=False
        )
    prove = opened.store.prove

    async def prove_late(user: str, fingerprint: str) -> bool:
        assert await prove("bob", fingerprint)
        return await prove(user, fingerprint)

    monkeypatch.setattr(opened.store, "prove", prove_late)
    assert await refusal(opened, "alice", OTHER) == f"pipe: {OTHERS_KEY_TEXT}\r\n"


async def test_query_proves_nothing(closed: Service) -> None:
    """Who asks about alice's key and signs with another one is not alice."""

    def talk(client: RawClient) -> list[int | None]:
        return [
            client.query("alice", ALICES.public_data),
            client.sign("alice", BOBS),
            client.query("alice", ALICES.public_data),
            client.sign("alice", BOBS, blob=ALICES.public_data),
        ]

    assert await raw(closed, talk) == [KEY_IS_GOOD, FAILURE, KEY_IS_GOOD, FAILURE]


async def test_identity_is_the_key_that_signed(opened: Service) -> None:
    """Who asks about many keys is known by the one that signed."""

    def talk(client: RawClient) -> list[int | None]:
        return [
            *(client.query("carol", key.public_data) for key in (ALICES, BOBS)),
            client.sign("carol", OTHER),
        ]

    assert await raw(opened, talk) == [KEY_IS_GOOD, KEY_IS_GOOD, SUCCESS]
    (key,) = await opened.store.list_keys()
    assert (key.user, key.fingerprint) == ("carol", OTHER.get_fingerprint())


async def test_signature_for_another_name(closed: Service) -> None:
    """A signature counts for the name and the connection that it was made for."""

    def talk(client: RawClient) -> int | None:
        signature = ALICES.sign(b"something else", b"ssh-ed25519")
        fields = (True, b"ssh-ed25519", ALICES.public_data, signature)
        return client.request("alice", "publickey", *fields)

    assert await raw(closed, talk) == FAILURE


async def test_change_of_name(closed: Service) -> None:
    """A client that changes its name during the login is disconnected."""

    def talk(client: RawClient) -> list[int | None]:
        return [client.query("alice", ALICES.public_data), client.sign("bob", BOBS)]

    assert await raw(closed, talk) == [KEY_IS_GOOD, None]


async def test_empty_name(opened: Service) -> None:
    """The empty name, for which asyncssh asks nobody, logs nobody in."""

    def talk(client: RawClient) -> list[int | None]:
        return [
            client.request("", "none"),
            client.query("", ALICES.public_data),
            client.sign("", ALICES),
        ]

    assert await raw(opened, talk) == [FAILURE] * 3
    assert await opened.store.list_users() == ()


async def test_other_methods(closed: Service) -> None:
    """There is no way in but a key."""

    def talk(client: RawClient) -> list[int | None]:
        return [
            client.request("alice", "none"),
            client.request("alice", "password", False, b"secret"),
            client.request("alice", "keyboard-interactive", b"", b""),
            client.request("alice", "hostbased", b"ssh-ed25519", b"", b"here", b"root", b""),
            client.request("alice", "gssapi-with-mic", b""),
        ]

    assert await raw(closed, talk) == [FAILURE] * 5


async def test_name_that_saslprep_folds(closed: Service) -> None:
    """A fullwidth alice is alice: with her key it is her, and with another key nobody."""
    wide = "\uff41\uff4c\uff49\uff43\uff45"

    def talk(key: asyncssh.SSHKey) -> Callable[[RawClient], int | None]:
        return lambda client: client.sign(wide, key)

    assert await raw(closed, talk(ALICES)) == SUCCESS
    assert await raw(closed, talk(OTHER)) == FAILURE


@pytest.mark.parametrize(
    "name",
    [
        "\u0430lice",
        "alice/bob",
        "..",
        "../alice",
        "*",
        "al ice",
        "Alice",
        "root",
        "admin",
        "public",
        "1alice",
        "x" * 33,
        "alice\n",
        "alice\x1b[31m",
    ],
)
async def test_bad_name(opened: Service, name: str) -> None:
    """A name outside the grammar logs nobody in, and the client is told."""

    def talk(client: RawClient) -> tuple[list[int | None], str]:
        answers = [client.query(name, ALICES.public_data)]
        if answers[0] is not None:
            answers.append(client.sign(name, ALICES))
        return answers, client.banner

    answers, banner = await raw(opened, talk)
    assert set(answers) <= {FAILURE, None}
    assert banner.startswith("pipe: ") or None in answers
    assert banner.removesuffix("\r\n").isprintable()
    assert await opened.store.list_users() == ()


def rsa_blob(bits: int, exponent: int = 65537) -> bytes:
    """An RSA key that is only as real as it must be to be shown."""
    modulus = (1 << (bits - 1)) | (1 << (bits // 2)) | 1
    return String("ssh-rsa") + MPInt(exponent) + MPInt(modulus)


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (String("ssh-dss") + MPInt(1 << 1023) + MPInt(1 << 159) + MPInt(2) + MPInt(3), "'ssh-dss'"),
        (rsa_blob(1024), "RSA keys must have 2048 to 8192 bits"),
        (rsa_blob(16384), "RSA keys must have 2048 to 8192 bits"),
        (rsa_blob(2048, (1 << 2000) + 1), "exponent"),
        (String("ssh-ed448") + String(bytes(57)), "'ssh-ed448'"),
        (String("x509v3-ssh-rsa") + String(b"junk"), "'x509v3-ssh-rsa'"),
        (String("none"), "'none'"),
        (b"", "''"),
        (b"\xff\xff\xff\xff", "''"),
    ],
    ids=["dsa", "rsa-1024", "rsa-16384", "exponent", "ed448", "x509", "unknown", "empty", "cut"],
)
async def test_weak_key(opened: Service, blob: bytes, reason: str) -> None:
    """A key of a kind that is not safe is refused, and the client is told why."""

    def talk(client: RawClient) -> tuple[list[int | None], str]:
        answers = [
            client.query("alice", blob, b"whatever"),
            client.request("alice", "publickey", True, b"ssh-rsa", blob, String("rsa-sha2-256")),
        ]
        return answers, client.banner

    answers, banner = await raw(opened, talk)
    assert answers == [FAILURE, FAILURE]
    assert reason in banner


@pytest.mark.parametrize(
    "blob",
    [
        String("ssh-ed25519"),
        String("ssh-ed25519") + String(b"short"),
        String("ssh-rsa") + MPInt(0) + MPInt(0),
        String("ssh-ed25519") + String(bytes(32)) + b"more",
        String("ecdsa-sha2-nistp256") + String("nistp256") + String(b"\x04" + bytes(64)),
    ],
)
async def test_damaged_key(opened: Service, blob: bytes) -> None:
    """What is no key is refused."""
    assert await raw(opened, lambda client: client.query("alice", blob)) == FAILURE


async def test_signature_over_sha1(opened: Service) -> None:
    """An RSA key may not sign over SHA-1, and a client that can do better does."""

    def talk(client: RawClient) -> tuple[int | None, str]:
        return client.sign("alice", RSA, algorithm=b"ssh-rsa"), client.banner

    answer, banner = await raw(opened, talk)
    assert answer == FAILURE
    assert "signatures of type 'ssh-rsa' are not accepted" in banner
    async with await connect(opened, "alice", RSA) as connection:
        assert RSA.get_fingerprint() in await run(connection, "whoami")


async def test_huge_exponent_costs_nothing(opened: Service) -> None:
    """A real RSA key with a huge exponent is refused before anything is computed with it."""
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    blob = String("ssh-rsa") + MPInt((1 << 2047) + 1) + MPInt(numbers.n)
    fields = (True, b"rsa-sha2-256", blob, String("rsa-sha2-256") + String(bytes(256)))
    assert (
        await raw(opened, lambda client: client.request("alice", "publickey", *fields)) == FAILURE
    )


async def test_requests_in_flight(closed: Service) -> None:
    """A client that does not wait for answers gains nothing by it."""

    def talk(client: RawClient) -> list[int | None]:
        first = client.query("alice", ALICES.public_data)
        return [first, client.sign("alice", OTHER), client.sign("alice", ALICES)]

    assert await raw(closed, talk) == [KEY_IS_GOOD, FAILURE, SUCCESS]


async def open_session(connection: asyncssh.SSHClientConnection, **options: Any) -> None:  # noqa: ANN401
    """Open a channel with these requests."""
    await connection.create_session(asyncssh.SSHClientSession, **options)


async def refused(service: Service, ask: Callable[[asyncssh.SSHClientConnection], object]) -> None:
    """Ask for something over a connection that is logged in, and get a clean no."""
    async with await connect(service, "alice", ALICES) as connection:
        with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ChannelListenError)):
            await ask(connection)  # type: ignore[misc]  # all of them are coroutines
        assert "alice" in await run(connection, "whoami")


async def test_forwarding_is_refused(closed: Service, tmp_path: Path) -> None:
    """No connection is forwarded in either direction, over TCP or Unix sockets."""
    await refused(
        closed, lambda c: c.create_connection(asyncssh.SSHTCPSession, "127.0.0.1", closed.port)
    )
    await refused(
        closed, lambda c: c.create_unix_connection(asyncssh.SSHUNIXSession, "/var/run/x.sock")
    )
    await refused(closed, lambda c: c.forward_remote_port("", 0, "127.0.0.1", closed.port))
    await refused(
        closed, lambda c: c.forward_remote_path(str(tmp_path / "far"), str(tmp_path / "near"))
    )
    assert {path.name for path in children(tmp_path)} == {"data"}


async def test_tunnels_are_refused(closed: Service) -> None:
    """No network device is opened."""
    await refused(closed, lambda c: c.create_tun(asyncssh.SSHTunTapSession))
    await refused(closed, lambda c: c.create_tap(asyncssh.SSHTunTapSession))


async def test_subsystems_are_refused(closed: Service) -> None:
    """There is no sftp and no other subsystem."""
    for name in ("sftp", "netconf", "x" * 1000):
        ask = partial(open_session, subsystem=name)
        await refused(closed, ask)


async def test_agent_is_not_forwarded(
    closed: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that offers its agent is served, and no socket is made for it."""
    temporary = tmp_path / "data"
    before = children(temporary)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    async with await connect(closed, "alice", ALICES) as connection:
        process = await connection.create_process("pub inbox")
        wanted = String("auth-agent-req@openssh.com"), Boolean(False)
        process.channel.send_packet(MSG_CHANNEL_REQUEST, *wanted)
        assert "alice" in await run(connection, "whoami")
        assert children(temporary) == before


async def test_display_is_not_forwarded(closed: Service) -> None:
    """A client that offers its display is told no."""
    ask = partial(open_session, command="whoami", x11_forwarding=True, x11_display="127.0.0.1:9")
    await refused(closed, ask)
