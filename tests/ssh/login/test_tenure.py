"""Logins that files and certificates have let in, and that end with them."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from pipe.errors import Outcome
from pipe.rights.access import REMOVED_TEXT
from pipe.ssh.login import tenure
from pipe.ssh.login.key_files import KeyFiles
from pipe.ssh.login.logins import UNTRUSTED_TEXT
from tests.e2e.processes import DEADLINE
from tests.ssh.serving import connect, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipe.service import Service
    from pipe.ssh.login.key_files import Entry

KEYS = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]
LINES = [f"{key.export_public_key().decode().strip()}\n" for key in KEYS]
CA = asyncssh.generate_private_key("ssh-ed25519")
OTHER_CA = asyncssh.generate_private_key("ssh-ed25519")
CA_LINE, OTHER_CA_LINE = (key.export_public_key().decode() for key in (CA, OTHER_CA))


LOOK_SECONDS = tenure.LOOK_SECONDS
"""As a running server has it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of key files: alice has both keys."""
    return make_folder(tmp_path / "keys", alice="".join(LINES))


def make_folder(path: Path, **files: str) -> Path:
    """Make a folder with these files."""
    path.mkdir(mode=0o755)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Looks come quickly, and are counted."""
    monkeypatch.setattr(tenure, "LOOK_SECONDS", 0.01)
    return Looks(monkeypatch)


class Looks:
    """Counts the looks at the files, and lets a test wait for the next ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        self._looked = asyncio.Condition()
        look = tenure.Tenures._look_at_files  # noqa: SLF001

        async def counted(tenures: tenure.Tenures) -> None:
            await look(tenures)
            async with self._looked:
                self._count += 1
                self._looked.notify_all()

        monkeypatch.setattr(tenure.Tenures, "_look_at_files", counted)

    async def wait(self, more: int = 4) -> None:
        """Return after so many looks that began after this call."""
        wanted = self._count + 1 + more
        async with asyncio.timeout(DEADLINE), self._looked:
            await self._looked.wait_for(lambda: self._count >= wanted)


async def wait_sessions(service: Service, *users: str) -> None:
    """Return once there are sessions of these users and no others."""
    async with asyncio.timeout(DEADLINE):
        while sorted(session.caller.user for session in service.sessions) != sorted(users):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.005)


async def open_reader(
    connection: asyncssh.SSHClientConnection, command: str = "sub -k own"
) -> asyncssh.SSHClientProcess[str]:
    """Begin to read, and return once the server has said that it accepts the command."""
    return await connection.create_process(command)


async def assert_over(session: asyncssh.SSHClientProcess[str], text: str) -> None:
    """It ends with 77 and exactly this line."""
    async with asyncio.timeout(DEADLINE):
        result = await session.wait()
    assert (result.exit_status, result.stdout) == (Outcome.DENIED.status, "")
    assert result.stderr == f"pipe: {text}\n"


def fill_in(text: str) -> str:
    """A file's text, with the keys' lines."""
    return text.replace("FIRST ", LINES[0]).replace("FIRST", LINES[0]).replace("SECOND", LINES[1])


def rewrite(path: Path, text: str | None) -> None:
    """What an operator does to a file: write it anew, or remove it."""
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


def test_looks_are_often_enough() -> None:
    """What an operator changes counts within a second, in which two looks find the same."""
    assert 2 * LOOK_SECONDS < 1


@pytest.mark.parametrize(
    ("after", "text"),
    [
        ("SECOND", REMOVED_TEXT),
        ("", REMOVED_TEXT),
        (None, REMOVED_TEXT),
        ("# FIRST SECOND", REMOVED_TEXT),
        ('environment="A=b" FIRST SECOND', REMOVED_TEXT),
        ("restrict FIRST SECOND", tenure.CHANGED_TEXT),
        ('command="whoami" FIRST', tenure.CHANGED_TEXT),
        (
            'from="192.0.2.1" FIRST SECOND',
            "access denied: this key may not be used from 127.0.0.1",
        ),
        ('expiry-time="20200101" FIRST SECOND', tenure.KEY_EXPIRED_TEXT),
    ],
)
@pytest.mark.usefixtures("looks")
async def test_line_that_is_gone(
    folder: Path, tmp_path: Path, after: str | None, text: str
) -> None:
    """When the line that let somebody in is gone or another one, all sessions end, and say why.

    Readers on patterns are among them, and what the connection would open next is refused.
    """
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        first = await connect(service, "alice", KEYS[0])
        readers = [await open_reader(first), await open_reader(first, "sub 'alice/*'")]
        rewrite(folder / "alice", after and fill_in(after))
        for reader in readers:
            await assert_over(reader, text)
        await assert_over(await open_reader(first, "whoami"), text)
        await wait_sessions(service)
        first.close()


async def test_lines_that_stay(folder: Path, tmp_path: Path, looks: Looks) -> None:
    """Whose line stays goes on, whatever else is changed around it, and however it is written."""
    (folder / "bob").write_text(LINES[0])
    terms = 'from="127.0.0.0/8",expiry-time="20990101"'
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        connections = [
            await connect(service, user, key)
            for user, key in (("alice", KEYS[0]), ("alice", KEYS[1]), ("bob", KEYS[0]))
        ]
        readers = [await open_reader(connection) for connection in connections]
        replaced = folder / ".new"
        replaced.write_text(f"# first\n{terms} {LINES[0]}")
        replaced.rename(folder / "alice")
        await assert_over(readers[1], REMOVED_TEXT)
        await looks.wait()
        await wait_sessions(service, "alice", "bob")
        (folder / "bob").unlink()
        await assert_over(readers[2], REMOVED_TEXT)
        (folder / "alice").write_text(LINES[0])
        await looks.wait()
        await wait_sessions(service, "alice")
        for connection in connections:
            connection.close()


def damage_mode(folder: Path) -> None:
    """A file that others could write is not believed."""
    (folder / "alice").chmod(0o666)


def damage_size(folder: Path) -> None:
    """A file that is too large is not read."""
    (folder / "alice").write_bytes(b"#" * (2 << 20))


def damage_kind(folder: Path) -> None:
    """A folder in the file's place."""
    (folder / "alice").unlink()
    (folder / "alice").mkdir()


def damage_link(folder: Path) -> None:
    """A link to a disk that is not there."""
    (folder / "alice").unlink()
    (folder / "alice").symlink_to(folder.parent / "no" / "disk")


def damage_folder(folder: Path) -> None:
    """The whole folder is gone."""
    folder.rename(folder.with_name("elsewhere"))


def damage_mount(folder: Path) -> None:
    """The folder's disk is not mounted any more: what is left is an empty place."""
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()


def damage_parent(folder: Path) -> None:
    """The folder is no folder any more."""
    folder.rename(folder.with_name("elsewhere"))
    folder.touch()


@pytest.mark.parametrize(
    "damage",
    [
        damage_mode,
        damage_size,
        damage_kind,
        damage_link,
        damage_folder,
        damage_mount,
        damage_parent,
    ],
)
async def test_what_cannot_be_read_ends_nothing(
    folder: Path, tmp_path: Path, looks: Looks, damage: Callable[[Path], None]
) -> None:
    """A file or folder that cannot be read or believed ends no session, and lets nobody in."""
    async with serving(tmp_path / "data", authorized_keys=folder, signup="closed") as service:
        first = await connect(service, "alice", KEYS[0])
        reader = await open_reader(first)
        damage(folder)
        await looks.wait()
        assert len(service.sessions) == 1
        assert not reader.is_closing()
        with pytest.raises(asyncssh.Error):
            await connect(service, "alice", KEYS[0])
        assert str((await first.run("whoami")).stdout).startswith("user     alice\n")
        first.close()


async def test_error_of_the_disk(
    folder: Path, tmp_path: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk answers with errors nobody is thrown out; when it is back, files count."""
    real_open = os.open

    def broken(path: Any, *arguments: Any, **options: Any) -> int:  # noqa: ANN401
        if str(path).endswith("keys/alice"):
            raise OSError(5, "Input/output error")
        return real_open(path, *arguments, **options)

    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        first = await connect(service, "alice", KEYS[0])
        reader = await open_reader(first)
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", broken)
            (folder / "alice").write_text(LINES[1])
            await looks.wait()
            assert len(service.sessions) == 1
        await assert_over(reader, REMOVED_TEXT)
        first.close()


async def test_folder_that_was_replaced(folder: Path, tmp_path: Path, looks: Looks) -> None:
    """A folder that another one takes the place of, as deployments do, counts like the first."""
    (folder / "bob").write_text(LINES[1])
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        alice, bob = [
            await connect(service, user, key)
            for user, key in zip(("alice", "bob"), KEYS, strict=True)
        ]
        readers = [await open_reader(one) for one in (alice, bob)]
        damage_folder(folder)
        await looks.wait()
        make_folder(folder, bob=LINES[1])
        await assert_over(readers[0], REMOVED_TEXT)
        await looks.wait()
        await wait_sessions(service, "bob")
        for one in (alice, bob):
            one.close()


async def test_half_written_file(folder: Path, tmp_path: Path, looks: Looks) -> None:
    """A file that is found different at each look ends nobody: somebody is writing it."""
    path = folder / "alice"
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        first = await connect(service, "alice", KEYS[0])
        await open_reader(first)
        contents = itertools.cycle(("", LINES[1]))
        whole = False
        look = KeyFiles.look

        def written_meanwhile(files: KeyFiles, users: set[str]) -> dict[str, tuple[Entry, ...]]:
            # Empty at one look, half there at the next, and so on: as an editor in slow motion.
            path.write_text("".join(LINES) if whole else next(contents))
            return look(files, users)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KeyFiles, "look", written_meanwhile)
            await looks.wait(20)
            whole = True
            await looks.wait()
        assert len(service.sessions) == 1
        first.close()


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock on the wall, by which ends are told; timers go on as they did."""
    return lambda now: monkeypatch.setattr(time, "time", lambda: now)


async def test_expiry_of_a_line(
    folder: Path, tmp_path: Path, looks: Looks, set_clock: Callable[[float], None]
) -> None:
    """A session ends when its key's time is over, not before, also if that came later."""
    ends = int(time.time()) + 3600
    moment = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(ends))
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        first = await connect(service, "alice", KEYS[0])
        reader = await open_reader(first)
        (folder / "alice").write_text(f'expiry-time="{moment}" {LINES[0]}')
        set_clock(ends - 0.001)
        await looks.wait()
        assert not reader.is_closing()
        set_clock(ends)
        await assert_over(reader, tenure.KEY_EXPIRED_TEXT)
        first.close()


def certificate(
    ca: asyncssh.SSHKey = CA,
    key: asyncssh.SSHKey = KEYS[0],
    **terms: Any,  # noqa: ANN401
) -> tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]:
    """A certificate for alice."""
    return key, ca.generate_user_certificate(key, "a test", principals=["alice"], **terms)


async def test_expiry_of_a_certificate(
    tmp_path: Path, looks: Looks, set_clock: Callable[[float], None]
) -> None:
    """A session ends with its certificate; one by a later certificate of that very key goes on."""
    ca_file = tmp_path / "ca.pub"
    ca_file.write_text(CA_LINE)
    ends = int(time.time()) + 3600
    async with serving(tmp_path / "data", trusted_ca=ca_file) as service:
        short = await connect(service, "alice", certificate(valid_before=ends))
        for_ever = await connect(service, "alice", certificate())
        readers = [await open_reader(one) for one in (short, for_ever)]
        set_clock(ends - 0.001)
        await looks.wait()
        assert not readers[0].is_closing()
        set_clock(ends)
        await assert_over(readers[0], tenure.CERTIFICATE_EXPIRED_TEXT)
        await assert_over(await open_reader(short, "ls"), tenure.CERTIFICATE_EXPIRED_TEXT)
        assert str((await for_ever.run("whoami")).stdout).startswith("user     alice\n")
        await wait_sessions(service, "alice")
        for one in (short, for_ever):
            one.close()


async def test_ca_that_is_not_trusted_any_more(tmp_path: Path, looks: Looks) -> None:
    """A CA whose line is gone ends its sessions; a file that is gone or damaged ends none."""
    ca_file = tmp_path / "ca.pub"
    ca_file.write_text(CA_LINE + OTHER_CA_LINE)
    async with serving(tmp_path / "data", trusted_ca=ca_file) as service:
        connections = [await connect(service, "alice", certificate(ca)) for ca in (CA, OTHER_CA)]
        readers = [await open_reader(one) for one in connections]
        for text in ("", "junk", None):
            rewrite(ca_file, text)
            await looks.wait()
            await wait_sessions(service, "alice", "alice")
        ca_file.write_text(OTHER_CA_LINE)
        await assert_over(readers[0], UNTRUSTED_TEXT)
        await looks.wait()
        await wait_sessions(service, "alice")
        for one in connections:
            one.close()


async def test_no_way_to_stay(folder: Path, tmp_path: Path) -> None:
    """Who was let in by a file or a certificate adds no key that would outlive them."""
    ca_file = tmp_path / "ca.pub"
    ca_file.write_text(CA_LINE)
    (folder / "alice").write_text(f'expiry-time="20990101" {LINES[0]}')
    spare = asyncssh.generate_private_key("ssh-ed25519")
    async with serving(
        tmp_path / "data", authorized_keys=folder, trusted_ca=ca_file, signup="closed"
    ) as service:
        for shown in (KEYS[0], certificate(key=KEYS[1])):
            async with await connect(service, "alice", shown) as connection:
                added = await connection.run(
                    "keys add", input=spare.export_public_key().decode(), check=False
                )
                assert added.exit_status == Outcome.DENIED.status
                assert "ask the operator to add a key" in str(added.stderr)
        with pytest.raises(asyncssh.Error):
            await connect(service, "alice", spare)


@pytest.mark.usefixtures("looks")
async def test_nobody_to_look_for(folder: Path, tmp_path: Path) -> None:
    """Logins by keys of the database have nobody look at files, and are not ended by them."""
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        async with await connect(service, "bob", KEYS[0]) as connection:
            reader = await open_reader(connection)
            async with await connect(service, "alice", KEYS[1]) as other:
                hers = await open_reader(other)
                (folder / "alice").write_text("")
                await assert_over(hers, REMOVED_TEXT)
            await wait_sessions(service, "bob")
            assert not reader.is_closing()
        # Nothing is remembered of those who have gone.
        assert service.access._dismissed == {}  # noqa: SLF001
