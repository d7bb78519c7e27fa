"""Logins with real clients: certificates, keys in files, changed accounts, databases away."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.postgres import Postgres

from .clients import bare_environment
from .processes import DEADLINE, HELD, Process, statuses, wait_until
from .server import ROOT, Server, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import StartServer

pytestmark = pytest.mark.e2e

TALKATIVE = ("-o", "LogLevel=INFO")
"""So that `ssh` shows what the server says before the login."""

UNAVAILABLE = "nobody can log in right now, as the accounts database does not answer"


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that a test may stop."""
    with Postgres() as postgres:
        yield postgres


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The private key of a CA."""
    path = tmp_path / "ca"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
    return path


def run(*command: str | Path) -> None:
    """Run a program that is to succeed."""
    words = [str(word) for word in command]
    subprocess.run(words, check=True, capture_output=True, timeout=DEADLINE)


def pipe(server: Server, *words: str | Path, url: str = "") -> None:
    """Run `pipe` beside the server, on its accounts."""
    place = ["--database-url", url] if url else ["--data-dir", str(server.data_dir)]
    process = Process(
        [sys.executable, "-m", "pipe", *map(str, words), *place],
        environment=bare_environment(),
        directory=ROOT,
        forked=True,
    )
    assert process.wait() == Status.OK, process


def certify(ca: Path, key: Path, *options: str) -> tuple[str, ...]:
    """Sign a key, and return what makes `ssh` use the certificate."""
    run("ssh-keygen", "-q", "-s", ca, "-I", "a test", *options, key.with_suffix(".pub"))
    return "-o", f"CertificateFile={key.with_name(key.name + '-cert.pub')}", *TALKATIVE


def own_key(folder: Path, name: str) -> Path:
    """A key of the test's own, of which certificates do not come in others' way."""
    path = folder / name
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
    return path


def test_certificates(start_server: StartServer, ca: Path, tmp_path: Path) -> None:
    """A certified key logs in as its principal, as long and as far as the certificate says."""
    server = start_server(trusted_ca=str(ca.with_suffix(".pub")), signup="closed")
    pipe(server, "user", "add", "alice")
    key = own_key(tmp_path, "hers")

    def attempt(command: str, *terms: str) -> Process:
        options = (*certify(ca, key, *terms), "-i", str(key))
        client = server.ssh("alice", command, options=options)
        client.wait()
        return client

    good = attempt("whoami", "-n", "alice,bob", "-V", "+1h")
    assert (good.wait(), "alice" in good.output) == (Status.OK, True)
    forced = attempt("help", "-n", "alice", "-O", "force-command=whoami")
    assert (forced.wait(), "alice" in forced.output) == (Status.OK, True)
    assert attempt("whoami", "-n", "alice", "-O", "source-address=127.0.0.0/8").wait() == Status.OK
    for terms, reason in {
        ("-n", "bob"): "is for 'bob', not for 'alice'",
        (): "names no principal",
        ("-n", "alice", "-V", "20200101:20200102"): "has expired at 2020-01-0",
        ("-n", "alice", "-O", "source-address=192.0.2.1"): "may not be used from 127.0.0.1",
        ("-n", "alice", "-O", "critical:who@x=y"): "critical option 'who@x'",
    }.items():
        refused = attempt("whoami", *terms)
        assert refused.wait() == Status.NO_CONNECTION, refused
        assert reason in refused.text, refused


def test_certificate_of_a_removed_user(start_server: StartServer, ca: Path, tmp_path: Path) -> None:
    """Removing the user ends the certificates of that name, however long they are valid."""
    server = start_server(trusted_ca=str(ca.with_suffix(".pub")), signup="closed")
    key = own_key(tmp_path, "hers")
    options = (*certify(ca, key, "-n", "alice"), "-i", str(key))
    for command, status in (("add", Status.OK), ("rm", Status.NO_CONNECTION)):
        pipe(server, "user", command, "alice")
        client = server.ssh("alice", "whoami", options=options)
        assert client.wait() == status, client


def test_key_files(start_server: StartServer, tmp_path: Path) -> None:
    """A folder of files says who gets in, and what is changed in it counts at the next login."""
    folder = tmp_path / "authorized"
    folder.mkdir(mode=0o755)
    server = start_server(authorized_keys=str(folder), signup="closed")
    file = folder / "alice"
    assert server.run("alice", "whoami").wait() == Status.NO_CONNECTION
    file.write_bytes(server.keys.public("alice"))
    assert server.run("alice", "whoami").wait() == Status.OK
    file.write_bytes(b'restrict,command="whoami" ' + server.keys.public("alice"))
    forced = server.run("alice", "help")
    assert forced.wait() == Status.OK
    assert server.keys.fingerprint("alice") in forced.output
    file.write_bytes(b'from="192.0.2.0/24" ' + server.keys.public("alice"))
    away = server.ssh("alice", "whoami", options=TALKATIVE)
    assert away.wait() == Status.NO_CONNECTION
    assert "may not be used from 127.0.0.1" in away.text
    file.write_bytes(b'environment="A=b" ' + server.keys.public("alice"))
    assert server.run("alice", "whoami").wait() == Status.NO_CONNECTION
    server.process.wait_stderr("the option 'environment' cannot be honoured here")
    file.unlink()
    assert server.run("alice", "whoami").wait() == Status.NO_CONNECTION


def test_sessions_end_with_their_lines(start_server: StartServer, tmp_path: Path) -> None:
    """Who is taken out of a key file is out in mid-stream, and nobody else is."""
    folder = tmp_path / "authorized"
    folder.mkdir(mode=0o755)
    server = start_server(authorized_keys=str(folder), signup="closed")
    for user in ("alice", "bob"):
        (folder / user).write_bytes(server.keys.public(user))
    [reader] = server.subscribe("alice", "sub -k -a bob feed")
    writer = server.ssh("bob", "pub -c alice/feed", stdin=HELD)
    writer.write(b"before ")
    reader.wait_stdout(7)
    replaced = folder / ".alice"
    replaced.write_bytes(b"# hers\n" + server.keys.public("alice"))
    replaced.rename(folder / "alice")
    (folder / "bob").write_bytes(b"# nobody\n")

    assert writer.wait() == Status.DENIED, writer
    assert writer.text == (
        "pipe: access denied: the account or key that you logged in with was removed\n"
    )
    assert reader.running
    assert reader.stdout.data == b"before "
    (folder / "alice").unlink()
    assert reader.wait() == Status.DENIED, reader


def test_sessions_end_with_their_certificate(
    start_server: StartServer, ca: Path, tmp_path: Path
) -> None:
    """A certificate that runs out in mid-stream ends it, with a line that says so."""
    server = start_server(trusted_ca=str(ca.with_suffix(".pub")))
    key = own_key(tmp_path, "hers")

    def start(seconds: int) -> tuple[Process, int, tuple[str, ...]]:
        ends = int(time.time()) + seconds
        valid = time.strftime("%Y%m%d%H%M%S", time.localtime(ends))
        options = (*certify(ca, key, "-n", "alice", "-V", f"20200101:{valid}"), "-i", str(key))
        return server.ssh("alice", "sub -k feed", options=options), ends, options

    seconds = 3
    reader, ends, options = start(seconds)
    while reader.wait() == Status.NO_CONNECTION:  # a busy machine's login took longer than that
        seconds *= 3
        assert seconds < DEADLINE, reader
        reader, ends, options = start(seconds)

    assert reader.wait() == Status.DENIED, reader
    assert "the certificate that you logged in with has expired" in reader.text
    assert time.time() >= ends
    assert server.ssh("alice", "sub feed", options=options).wait() == Status.NO_CONNECTION


def test_changes_beside_the_server(start_server: StartServer) -> None:
    """What `pipe user` and `pipe key` change counts at the very next login."""
    server = start_server(signup="closed")
    public = server.keys.openssh("alice").with_suffix(".pub")
    other = server.keys.openssh("alices-other").with_suffix(".pub")
    assert server.run("alice", "whoami").wait() == Status.NO_CONNECTION
    pipe(server, "user", "add", "alice", "--key", public)
    for _ in range(3):
        assert server.run("alice", "whoami").wait() == Status.OK
        pipe(server, "key", "add", "alice", other)
        assert server.ssh("alice", "whoami", key_of="alices-other").wait() == Status.OK
        pipe(server, "key", "rm", "alice", server.keys.fingerprint("alices-other"))
        second = server.ssh("alice", "whoami", key_of="alices-other")
        assert second.wait() == Status.NO_CONNECTION
    pipe(server, "user", "rm", "alice")
    assert server.run("alice", "whoami").wait() == Status.NO_CONNECTION


def test_too_many_keys(server: Server) -> None:
    """A client that has many keys is cut off at the sixth, with a line that says so."""
    server.introduce("alice")
    keys = [server.keys.openssh(f"key{number}") for number in range(8)]
    options = [word for key in keys for word in ("-i", str(key))]
    client = server.ssh("alice", "whoami", options=("-o", "LogLevel=DEBUG1", *options))
    assert client.wait() == Status.NO_CONNECTION
    assert "Too many authentication failures: name your key, as in ssh -i KEY" in client.text
    assert client.text.count("Offering public key") == 6


def wait_refused(server: Server) -> None:
    """Return once alice is not let in: what PostgreSQL said is remembered for a second."""
    wait_until(lambda: server.run("alice", "whoami").wait(), "the memory of a login to end")


def stream(server: Server) -> tuple[Process, Process]:
    """A publisher and a subscriber between whom bytes flow."""
    [reader] = server.subscribe("alice", "sub feed")
    writer = server.ssh("alice", "pub feed", stdin=HELD)
    writer.write(b"before ")
    reader.wait_stdout(7)
    return writer, reader


def assert_nobody_gets_in(server: Server) -> None:
    """Old and new users get a clear line, and nothing hangs."""
    for user in ("alice", "newcomer"):
        client = server.ssh(user, "whoami", options=TALKATIVE)
        assert client.wait() == Status.NO_CONNECTION
        assert UNAVAILABLE in client.text, client


def finish(writer: Process, reader: Process, expected: bytes) -> None:
    """Let the stream come to its end, with nothing lost."""
    writer.close_stdin()
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == expected


def test_database_file_is_away(start_server: StartServer, tmp_path: Path) -> None:
    """While the SQLite file is gone streams go on, new logins are told, and all comes back."""
    server = start_server()
    server.introduce("alice")
    writer, reader = stream(server)
    away = tmp_path / "away"
    away.mkdir()
    files = list(server.data_dir.glob("pipe.db*"))
    for file in files:
        file.rename(away / file.name)
    assert_nobody_gets_in(server)
    writer.write(b"meanwhile ")
    reader.wait_stdout(17)
    for file in files:
        (away / file.name).rename(file)
    server.introduce("alice", "newcomer")
    writer.write(b"after")
    finish(writer, reader, b"before meanwhile after")
    server.process.wait_stderr("the file is gone")


def test_postgresql_is_away(start_server: StartServer, own_postgres: Postgres) -> None:
    """While PostgreSQL is down streams go on, new logins are told, and all comes back."""
    server = start_server(database_url=own_postgres.new_database())
    server.introduce("alice")
    writer, reader = stream(server)
    logins = server.metrics().value("pipe_logins_total", result="accepted")
    late = server.ssh("alice", "keys add", stdin=HELD)
    server.wait_metric("pipe_logins_total", logins + 1, result="accepted")
    own_postgres.stop()
    late.write(server.keys.public("spare"))
    late.close_stdin()
    assert late.wait() == Status.SHUTDOWN
    assert late.lines == ["pipe: the accounts database does not answer: try again later"]
    wait_refused(server)
    assert_nobody_gets_in(server)
    writer.write(b"meanwhile ")
    reader.wait_stdout(17)
    own_postgres.start()
    server.introduce("alice", "newcomer")
    writer.write(b"after")
    finish(writer, reader, b"before meanwhile after")


def test_two_servers_on_one_postgresql(start_server: StartServer, own_postgres: Postgres) -> None:
    """Servers that start on one database share its accounts, and its changes within a second."""
    url = own_postgres.new_database()
    first, second = start_server(database_url=url), start_server(database_url=url)
    first.introduce("alice")
    second.introduce("alice")
    assert second.ssh("alice", "whoami", key_of="mallory").wait() == Status.NO_CONNECTION
    pipe(first, "user", "rm", "alice", url=url)
    pipe(first, "user", "add", "alice", url=url)
    for server in (first, second):
        wait_refused(server)
