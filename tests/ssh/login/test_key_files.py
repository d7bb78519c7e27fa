"""Keys in files: how lines are read, when files are believed, and who gets in by them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pipe.errors import AccessDenied, StartError, UsageError
from pipe.ssh.login import key_files
from pipe.ssh.login.files import MAX_FILE_BYTES, WatchedFile
from pipe.ssh.login.key_files import KeyFiles, parse_line
from pipe.ssh.login.restrictions import Restrictions
from tests.ssh.serving import connect, refusal, run, serving

KEYS = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(3)]
LINES = [key.export_public_key().decode().strip() for key in KEYS]
HERE = ipaddress.ip_address("192.0.2.7")
LONG_AGO = 1e9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of key files, empty."""
    path = tmp_path / "keys"
    path.mkdir(mode=0o755)
    return path


def allowed(line: str, address: str = "192.0.2.7", now: float = LONG_AGO) -> bool:
    """Whether a line lets its key in from there and then."""
    try:
        parse_line(line).check(ipaddress.ip_address(address), now)
    except AccessDenied:
        return False
    return True


def test_plain_line() -> None:
    """A key alone lets in from everywhere, with everything; so it does with a comment."""
    for line in (LINES[0], f"{LINES[0]} me, the one and only"):
        entry = parse_line(line)
        assert entry.fingerprint == KEYS[0].get_fingerprint()
        assert entry.restrictions == Restrictions()


@pytest.mark.parametrize(
    ("options", "restrictions"),
    [
        ("restrict", Restrictions(pty=False, forwarding=False)),
        ("no-pty", Restrictions(pty=False)),
        ("restrict,pty", Restrictions(forwarding=False)),
        ("pty,restrict", Restrictions(pty=False, forwarding=False)),
        ("restrict,port-forwarding", Restrictions(pty=False)),
        ("port-forwarding,no-port-forwarding", Restrictions(forwarding=False)),
        ('command="sub alice/log"', Restrictions("sub alice/log")),
        (r'command="pub \"x\""', Restrictions('pub "x"')),
        (r'command="a\b, c=d # e"', Restrictions(r"a\b, c=d # e")),
        ('command=""', Restrictions("")),
        ('RESTRICT,Command="ls",no-X11-forwarding', Restrictions("ls", False, False)),
        ('no-agent-forwarding,permitlisten="2"', Restrictions()),
        (
            'permitopen="host:1",PermitOpen="[::1]:080",permitopen="*:*"',
            Restrictions(opens=frozenset({("host", "1"), ("::1", "80"), ("*", "*")})),
        ),
    ],
)
def test_options(options: str, restrictions: Restrictions) -> None:
    """Options that hold a session back are kept, in their order."""
    entry = parse_line(f"{options} {LINES[0]} comment")
    assert entry.fingerprint == KEYS[0].get_fingerprint()
    assert entry.restrictions == restrictions


def test_from() -> None:
    """``from`` takes addresses, networks, wildcards and exceptions; all of several must agree."""
    line = f'from="192.0.2.*,2001:db8::/32,10.0.0.1,!192.0.2.9" {LINES[0]}'
    assert allowed(line)
    assert allowed(line, "2001:db8::5")
    assert allowed(line, "10.0.0.1")
    for address in ("192.0.2.9", "10.0.0.2", "2001:db9::1"):
        assert not allowed(line, address)
    assert not allowed(f'from="*.example.org" {LINES[0]}')
    assert not allowed(f'from="" {LINES[0]}')
    assert not allowed(f'from="192.0.2.7",from="192.0.2.8" {LINES[0]}')


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20300102Z", datetime(2030, 1, 2, tzinfo=UTC)),
        ("203001020304Z", datetime(2030, 1, 2, 3, 4, tzinfo=UTC)),
        ("20300102030405Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("20300102", datetime(2030, 1, 2).astimezone()),
    ],
)
def test_expiry_time(text: str, moment: datetime) -> None:
    """A key is good until the moment, in UTC or in the server's own time."""
    end = moment.timestamp()
    line = f'expiry-time="{text}" {LINES[0]}'
    assert allowed(line, now=end - 1)
    assert not allowed(line, now=end)
    assert not allowed(f'expiry-time="20200101",{line}', now=end - 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('environment="A=b" KEY', "'environment' cannot be honoured"),
        ("cert-authority KEY", "'cert-authority' cannot be honoured"),
        ('principals="alice" KEY', "'principals' cannot be honoured"),
        ("verify-required KEY", "'verify-required' cannot be honoured"),
        ('tunnel="1" KEY', "'tunnel' cannot be honoured"),
        ("from KEY", "'from' cannot be honoured"),
        ('restrict="x" KEY', "'restrict' cannot be honoured"),
        ('command="a",command="b" KEY', "'command' cannot be honoured"),
        ('expiry-time="20301301" KEY', "is no date"),
        ('expiry-time="soon" KEY', "is no date"),
        ('expiry-time="\uff12\uff10\uff13\uff10\uff10\uff11\uff10\uff12" KEY', "is no date"),
        ('permitopen="host" KEY', "is no host:port"),
        ('permitopen="::1:80" KEY', "is no host:port"),
        ('permitopen=":80" KEY', "is no host:port"),
        ('permitopen="host:65536" KEY', "is no host:port"),
        ("permitopen KEY", "'permitopen' cannot be honoured"),
        ('command="open KEY', "a quote is not closed"),
        ("restrict,KEY", "not accepted|neither|is not a public key|cannot be honoured"),
        ("restrict, KEY", "neither a key nor an option"),
        (", KEY", "neither a key nor an option"),
        ("restrict", "neither a key nor an option"),
        ("ssh-ed25519 AAAA", "is not a public key"),
        ("ssh-dss AAAAB3NzaC1kc3MAAAAA", "."),
        ("\x1b]52;c;x\x07 y", "."),
    ],
)
def test_bad_line(line: str, reason: str) -> None:
    """A line that cannot be honoured to the letter is refused with one sentence."""
    with pytest.raises(UsageError, match=reason) as caught:
        parse_line(line.replace("KEY", LINES[0]))
    assert caught.value.message.isprintable()


@given(st.text(max_size=60))
def test_junk(text: str) -> None:
    """Whatever a line says, it is read or refused."""
    for line in (text, f"{text} {LINES[0]}", f'command="{text}" {LINES[0]}'):
        with contextlib.suppress(UsageError):
            parse_line(line)


def test_find(folder: Path) -> None:
    """Each user has the keys of the file with that name, and lines that are no good count out."""
    (folder / "alice").write_text(f'# hers\n\n{LINES[0]}\nenvironment="A=b" {LINES[1]}\njunk\n')
    (folder / "bob").write_text(f'from="10.0.0.0/8" {LINES[0]}\ncommand="ls" {LINES[0]}')
    files = KeyFiles(folder)
    fingerprints = [key.get_fingerprint() for key in KEYS]

    def terms(user: str, fingerprint: str, place: str = "192.0.2.7") -> Restrictions | None:
        entry = files.find(user, fingerprint, ipaddress.ip_address(place), LONG_AGO)
        return entry.restrictions if entry else None

    assert terms("alice", fingerprints[0]) == Restrictions()
    assert terms("alice", fingerprints[1]) is None
    assert terms("bob", fingerprints[0]) == Restrictions("ls")
    assert terms("bob", fingerprints[0], "10.1.1.1") == Restrictions()
    assert terms("carol", fingerprints[0]) is None
    assert [files.knows(name) for name in ("alice", "carol")] == [True, False]


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_only_an_end_of_line_ends_a_line(folder: Path, separator: str) -> None:
    """What sshd takes for part of a comment is no second key, free of the first one's terms."""
    held = f'command="ls" {LINES[0]}'
    (folder / "alice").write_bytes(f"{held} x{separator}{LINES[1]}\r\n{LINES[2]}\r\n".encode())
    files = KeyFiles(folder)
    found = [files.find("alice", key.get_fingerprint(), HERE, LONG_AGO) for key in KEYS]

    assert [entry is not None for entry in found] == [False, False, True]


def test_knows_what_it_cannot_read(folder: Path, tmp_path: Path) -> None:
    """Whoever has a file has it also if nobody can read it, and a folder in doubt is no answer."""
    (folder / "alice").symlink_to(folder / "nowhere")
    (folder / "bob").symlink_to("bob")
    files = KeyFiles(folder)
    assert [files.knows(name) for name in ("alice", "bob", "carol")] == [True, True, False]
    away = tmp_path / "away"
    folder.rename(away)
    folder.mkdir()  # where a disk was mounted
    with pytest.raises(UsageError, match="is empty or missing"):
        files.knows("alice")
    folder.rmdir()
    folder.touch()
    with pytest.raises(UsageError, match="cannot be read: Not a directory"):
        files.knows("carol")
    folder.unlink()
    away.rename(folder)
    assert not files.knows("carol")


def test_trouble_is_told_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody tries, and however many names, no more is kept than of some."""
    monkeypatch.setattr(key_files, "MAX_FILES", 3)
    files = KeyFiles(folder)
    folder.rmdir()
    folder.touch()
    names = ["alice", "alice", "bob", "carol", "dave", "alice"]
    with capture_logs() as logs:
        for name in names:
            with pytest.raises(UsageError):
                files.knows(name)
    told = [Path(one["file"]).name for one in logs]
    assert told == ["alice", "bob", "carol", "dave", "alice"]


def test_changes(folder: Path) -> None:
    """A file that was changed, replaced or removed counts as it is at the next look-up."""
    file, other = folder / "alice", folder / ".new"
    files = KeyFiles(folder)
    first, second, third = (key.get_fingerprint() for key in KEYS)

    def known() -> list[bool]:
        return [
            files.find("alice", one, HERE, LONG_AGO) is not None for one in (first, second, third)
        ]

    assert known() == [False, False, False]
    file.write_text(LINES[0])
    assert known() == [True, False, False]
    file.write_text(LINES[1])  # of the same length, and within one tick of the clock
    assert known() == [False, True, False]
    other.write_text(LINES[2])
    other.rename(file)
    assert known() == [False, False, True]
    file.unlink()
    assert known() == [False, False, False]


def test_a_file_is_read_when_it_has_changed(folder: Path) -> None:
    """A file that stays as it is is read once."""
    path = folder / "alice"
    path.write_text("one")
    os.utime(path, (LONG_AGO, LONG_AGO))
    seen: list[str] = []

    def parse(text: str) -> str:
        seen.append(text)
        return text

    file = WatchedFile(path, parse)
    assert [file.read() for _ in range(3)] == ["one"] * 3
    path.write_text("two")
    assert [file.read() for _ in range(3)] == ["two"] * 3
    assert seen[0] == "one"
    assert set(seen[1:]) == {"two"}
    assert seen.count("one") == 1


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "believed"),
    [
        (0o600, 0o700, True),
        (0o644, 0o755, True),
        (0o444, 0o1777, True),
        (0o664, 0o755, False),
        (0o646, 0o755, False),
        (0o644, 0o775, False),
        (0o644, 0o777, False),
    ],
)
def test_modes(folder: Path, file_mode: int, folder_mode: int, believed: bool) -> None:
    """A file that others may change, or put another in the place of, lets nobody in."""
    path = folder / "alice"
    path.write_text(LINES[0])
    files = KeyFiles(folder)
    path.chmod(file_mode)
    folder.chmod(folder_mode)
    found = files.find("alice", KEYS[0].get_fingerprint(), HERE, LONG_AGO)
    assert (found is not None) is believed
    if not believed and folder_mode != 0o755:
        with pytest.raises(StartError, match="chmod go-w"):
            KeyFiles(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner(folder: Path) -> None:
    """A file of somebody else lets nobody in."""
    path = folder / "alice"
    path.write_text(LINES[0])
    os.chown(path, 12345, 12345)
    assert KeyFiles(folder).find("alice", KEYS[0].get_fingerprint(), HERE, LONG_AGO) is None


def test_links(folder: Path, tmp_path: Path) -> None:
    """A symbolic link is followed, and what it leads to must be as safe as a file in place."""
    safe, unsafe = tmp_path / "safe", tmp_path / "unsafe"
    for place, mode in ((safe, 0o755), (unsafe, 0o777)):
        place.mkdir()
        (place / "file").write_text(LINES[0])
        place.chmod(mode)
    (folder / "alice").symlink_to(safe / "file")
    (folder / "bob").symlink_to(unsafe / "file")
    (folder / "carol").symlink_to("/dev/zero")
    (folder / "dave").symlink_to("dave")
    os.mkfifo(folder / "erin")
    (folder / "frank").mkdir()
    (folder / "grace").write_text("#" * (MAX_FILE_BYTES + 1) + f"\n{LINES[0]}")
    files = KeyFiles(folder)
    found = [
        path.name
        for path in sorted(folder.iterdir())
        if files.find(path.name, KEYS[0].get_fingerprint(), HERE, LONG_AGO)
    ]
    assert found == ["alice"]


def test_bad_folder(tmp_path: Path) -> None:
    """A folder that is none stops the start."""
    file = tmp_path / "file"
    file.touch()
    for path in (file, tmp_path / "none"):
        with pytest.raises(StartError, match="cannot use the folder of authorized keys"):
            KeyFiles(path)


async def test_login(folder: Path, tmp_path: Path) -> None:
    """Users with a file need no account beforehand, and have one from their first login on."""
    (folder / "alice").write_text(f'{LINES[0]}\nrestrict,command="whoami" {LINES[1]}\n')
    async with serving(tmp_path / "data", authorized_keys=folder, signup="closed") as service:
        for _ in range(2):
            async with await connect(service, "alice", KEYS[0]) as connection:
                assert KEYS[0].get_fingerprint() in await run(connection, "whoami")
        async with await connect(service, "alice", KEYS[1]) as connection:
            assert KEYS[1].get_fingerprint() in await run(connection, "ls")
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("ls", term_type="xterm")
        assert await refusal(service, "alice", KEYS[2]) == ""
        assert [user.name for user in await service.store.list_users()] == ["alice"]
        assert await service.store.list_keys() == ()


async def test_both_sources(folder: Path, tmp_path: Path) -> None:
    """Keys in files stand beside those in the database; an account's flags hold for both."""
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        async with await connect(service, "alice", KEYS[0]):
            pass
        (folder / "alice").write_text(LINES[1])
        (folder / "bob").write_text(f'expiry-time="20200101" {LINES[2]}')
        for key in KEYS[:2]:
            async with await connect(service, "alice", key):
                pass
        assert "this key has expired" in await refusal(service, "bob", KEYS[2])


async def test_names_with_a_file_cannot_be_claimed(folder: Path, tmp_path: Path) -> None:
    """A name that the operator has given a file is nobody else's, account or not."""
    (folder / "alice").write_text(LINES[0])
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        assert "the name 'alice' is taken" in await refusal(service, "alice", KEYS[1])
        async with await connect(service, "bob", KEYS[1]):
            pass
        assert [user.name for user in await service.store.list_users()] == ["bob"]


def spoil(folder: Path) -> None:
    """Let nobody look into it any more: root may look where others may not, but not there."""
    folder.rename(folder.with_name("away"))
    folder.symlink_to(folder)


async def test_folder_that_cannot_be_looked_into(folder: Path, tmp_path: Path) -> None:
    """Nobody claims a name that may be somebody's, the log says why, and known keys go on."""
    (folder / "alice").write_text(LINES[0])
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        async with await connect(service, "bob", KEYS[1]):
            pass
        spoil(folder)
        with capture_logs() as logs:
            assert "no name can be claimed now" in await refusal(service, "alice", KEYS[2])
        told = [one["reason"] for one in logs if one["event"] == "key file not used"]
        assert told == ["it cannot be read: Too many levels of symbolic links"]
        async with await connect(service, "bob", KEYS[1]):
            pass
        assert [user.name for user in await service.store.list_users()] == ["bob"]


async def test_removed_line(folder: Path, tmp_path: Path) -> None:
    """Who is taken out of the file does not get in again."""
    (folder / "alice").write_text(LINES[0])
    async with serving(tmp_path / "data", authorized_keys=folder) as service:
        async with await connect(service, "alice", KEYS[0]):
            pass
        (folder / "alice").write_text("")
        assert "is taken" in await refusal(service, "alice", KEYS[0])
