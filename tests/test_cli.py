"""The command line: what it prints, what it says when something is wrong, and its statuses."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import asyncssh
import pytest

from pipe import __version__
from pipe.cli import HELP_WIDTH, STATUS_BROKEN_PIPE, STATUS_INTERRUPTED, main
from pipe.rights.callers import Caller
from pipe.settings import Settings, option_name
from pipe.store import Store, TokenKind
from pipe.store.admission import make_secret, make_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Run = tuple[int, str, str]
"""Exit status, stdout, stderr."""


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the accounts of each test in a folder of its own."""
    for name in list(os.environ):
        if name.upper().startswith("PIPE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIPE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run a command line in this process."""

    def run(*arguments: str) -> Run:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Put a server in place that ends at once with status 3; returns the settings that it got."""
    started: list[Settings] = []

    def start(settings: Settings) -> int:
        started.append(settings)
        return 3

    module = ModuleType("pipe.app")
    monkeypatch.setattr(module, "run", start, raising=False)
    monkeypatch.setitem(sys.modules, "pipe.app", module)
    return started


def public_key(comment: str = "me@here") -> str:
    """Make a new key's public line."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    return f"{key.export_public_key().decode().strip()} {comment}\n"


def test_help(run: Callable[..., Run]) -> None:
    """Help goes to stdout, with status 0."""
    for arguments in (["--help"], ["-h"], ["serve", "-h"], ["user", "--help"], ["key", "rm", "-h"]):
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        assert out.startswith("Usage: pipe")


@pytest.mark.parametrize("words", [[], ["serve"], ["user", "add"], ["sub"], ["monitor", "add"]])
def test_help_is_a_command_too(run: Callable[..., Run], words: list[str]) -> None:
    """Who knows ``ssh HOST help`` finds the same here."""
    found = run("help", *words)
    assert found == run(*words, "--help")
    assert (found[0], found[2]) == (0, "")


def test_help_of_what_there_is_not(run: Callable[..., Run]) -> None:
    """It names what was probably meant."""
    assert run("help", "sreve")[::2] == (
        64,
        "pipe: unknown command 'sreve'; did you mean 'serve'? 'pipe --help' lists the commands\n",
    )


def test_help_of_serve_has_every_setting(run: Callable[..., Run]) -> None:
    """Each setting is an option of serve, with its description and its default."""
    _, out, _ = run("serve", "--help")
    text = " ".join(out.split())
    for name, field in Settings.model_fields.items():
        assert f" {option_name(name)} " in text
        assert str(field.description)[1:] in text
    assert "[default: 2222]" in text
    assert "[default: 1MiB]" in text


def test_help_of_serve_is_in_parts(run: Callable[..., Run]) -> None:
    """What one sets up a server with comes before the limits, and nothing is wider than a page."""
    _, text, _ = run("serve", "--help")
    headings = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == ["Options:", "Settings:", "Limits:"]
    limits = text.index("\nLimits:")
    assert text.index("--config FILE") < text.index("--host HOST") < limits
    assert text.index("--public-port N") < limits < text.index("--max-auth-tries N")
    assert max(map(len, text.splitlines())) <= HELP_WIDTH


def test_new_accounts_are_told_of(run: Callable[..., Run], data: Path) -> None:
    """Who forgets --data-dir sees where the accounts went; beside a server nothing is said."""
    note = f"pipe: there were no accounts: made {data / 'pipe.db'}\n"
    data.mkdir()
    assert run("user", "add", "alice") == (0, "added user alice with 0 keys\n", note)
    assert run("user", "add", "bob") == (0, "added user bob with 0 keys\n", "")


def test_no_accounts(run: Callable[..., Run], data: Path) -> None:
    """Who looks into a folder without accounts is told so, and none are made there."""
    for arguments in (["user", "ls"], ["user", "rm", "bob"], ["user", "admin", "bob", "no"]):
        assert run(*arguments) == (
            64,
            "",
            f"pipe: there are no accounts in {data}: name the server's folder with --data-dir, or"
            " add the first user with 'pipe user add'\n",
        )
    assert not data.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can look as somebody else")
@pytest.mark.parametrize("command", [["user", "ls"], ["user", "add", "bob"]])
def test_folder_of_somebody_else(run: Callable[..., Run], data: Path, command: list[str]) -> None:
    """A folder that one may not look into is one line and status 69."""
    data.mkdir(mode=0o700)
    os.seteuid(65534)  # nobody
    try:
        status, out, err = run(*command)
    finally:
        os.seteuid(0)
    assert (status, out) == (69, "")
    assert err.startswith(f"pipe: cannot use the accounts database {data}/pipe.db: ")
    assert err.count("\n") == 1


def test_unknown_user(run: Callable[..., Run]) -> None:
    """A name that nobody has is named, and how to see those that there are."""
    run("user", "add", "alice")
    assert run("user", "rm", "bob") == (64, "", "pipe: no user 'bob'; 'pipe user ls' lists them\n")
    assert r"no user 'b\x1bb'" in run("key", "ls", "b\x1bb")[2]


def test_version(run: Callable[..., Run]) -> None:
    """The command and the option print the same line."""
    assert run("version") == run("--version") == (0, f"pipe {__version__}\n", "")


def test_serve(run: Callable[..., Run], serve: list[Settings], tmp_path: Path) -> None:
    """The server gets the settings of all sources, and its status is the program's."""
    config = tmp_path / "pipe.toml"
    config.write_text('drain = "5s"\n')
    status, _, err = run("serve", "--port", "0", "--signup=open", "--config", str(config))
    assert (status, err) == (3, "")
    (settings,) = serve
    assert (settings.port, settings.drain, settings.data_dir.name) == (0, 5, "data")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "a command is missing: 'pipe --help' lists them"),
        (["user"], "a command is missing: 'pipe user --help' lists them"),
        (["sreve"], "unknown command 'sreve'; did you mean 'serve'?"),
        (["serve", "--prot", "1"], "No such option '--prot'."),
        (["serve", "--port"], "requires an argument"),
        (["serve", "--port", "x"], "bad value 'x' for port (--port): use 0 to 65535"),
        (["serve", "extra"], "unexpected extra argument"),
        (["user", "add"], "Missing argument 'NAME'"),
        (["user", "add", "root"], "'root' is reserved"),
        (["user", "admin", "bob", "perhaps"], "Invalid value for 'yes|no'"),
        (["key", "add", "bob", "nowhere.pub"], "from 'nowhere.pub': No such file or directory"),
        (["user", "ls", "--config", "nowhere.toml"], "nowhere.toml: No such file"),
    ],
)
def test_usage_errors(
    run: Callable[..., Run], serve: list[Settings], arguments: list[str], expected: str
) -> None:
    """What cannot be understood is one line on stderr and status 64."""
    status, out, err = run(*arguments)
    assert (status, out) == (64, "")
    assert err.startswith("pipe: ")
    assert err.count("\n") == 1
    assert expected in err
    assert not serve


def test_broken_database(run: Callable[..., Run], data: Path) -> None:
    """A database that cannot be read is one line and status 69."""
    data.mkdir()
    (data / "pipe.db").write_bytes(b"no database" * 100)
    assert run("user", "ls") == (
        69,
        "",
        f"pipe: cannot use the accounts database {data}/pipe.db: file is not a database\n",
    )


def test_unwritable_data_folder(run: Callable[..., Run], tmp_path: Path) -> None:
    """A data folder that cannot be made is one line and status 69."""
    (tmp_path / "file").touch()
    status, _, err = run("user", "ls", "--data-dir", str(tmp_path / "file" / "data"))
    assert status == 69
    assert err.endswith("Not a directory\n")
    assert err.count("\n") == 1


def test_users(run: Callable[..., Run], tmp_path: Path) -> None:
    """Users are added with their keys, listed in columns, and removed."""
    files = [tmp_path / "one.pub", tmp_path / "two.pub"]
    for file in files:
        file.write_text(public_key())
    keys = [argument for file in files for argument in ("--key", str(file))]
    assert run("user", "add", "bob", "--admin", *keys)[1] == "added user bob with 2 keys\n"
    assert run("user", "add", "alexandra")[1] == "added user alexandra with 0 keys\n"
    status, out, _ = run("user", "ls")
    assert status == 0
    header, first, second = out.splitlines()
    assert header == "NAME       ADMIN  KEYS  CREATED"
    assert first.startswith("alexandra  no     0     20")
    assert second.startswith("bob        yes    2     20")
    for answer, text in (
        ("yes", "an admin already"),
        ("no", "no admin any more"),
        ("no", "no admin"),
        ("yes", "now an admin"),
    ):
        assert run("user", "admin", "bob", answer)[:2] == (0, f"user bob is {text}\n")
        assert f"bob        {answer:<3}" in run("user", "ls")[1]
    assert run("user", "admin", "nobody", "no")[0] == 64
    assert run("user", "rm", "bob")[1] == "removed user bob and 2 keys\n"
    assert run("user", "ls")[1].count("\n") == 2


def test_keys(run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are added from a file or stdin, listed, and removed by the start of the fingerprint."""
    run("user", "add", "bob")
    (tmp_path / "one.pub").write_text(public_key())
    status, out, _ = run("key", "add", "bob", str(tmp_path / "one.pub"))
    fingerprint = out.split()[2]
    assert (status, out) == (0, f"added key {fingerprint} to user bob\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(public_key("é").encode())))
    assert run("key", "add", "bob")[0] == 0
    _, out, _ = run("key", "ls", "bob")
    assert out.splitlines()[0].split() == [
        "USER",
        "FINGERPRINT",
        "TYPE",
        "CREATED",
        "LAST",
        "USED",
        "COMMENT",
    ]
    assert fingerprint in out
    assert "never" in out
    assert " é\n" in out
    assert run("key", "ls")[1] == out
    assert run("key", "rm", "bob", fingerprint[:20])[1] == (
        f"removed key {fingerprint} from user bob\n"
    )
    assert fingerprint not in run("key", "ls")[1]


def test_comments_are_escaped(run: Callable[..., Run], tmp_path: Path) -> None:
    """A comment with terminal sequences is printed so that a terminal does nothing."""
    (tmp_path / "evil.pub").write_text(public_key("\x1b]52;c;AAAA\x07\u202e"))
    run("user", "add", "bob", "--key", str(tmp_path / "evil.pub"))
    _, out, _ = run("key", "ls")
    assert r"\x1b]52;c;AAAA\x07\u202e" in out
    assert out.replace("\n", "").isprintable()


def test_shared_key(run: Callable[..., Run], tmp_path: Path) -> None:
    """A second user is given a key at the operator's word, and without it the operator asks."""
    path = tmp_path / "one.pub"
    path.write_text(public_key("desk"))
    run("user", "add", "bob", "--key", str(path))
    run("user", "add", "carol")
    fingerprint = run("key", "ls")[1].splitlines()[1].split()[1]
    status, out, err = run("key", "add", "carol", str(path))
    assert (status, out) == (64, "")
    assert err == (f"pipe: key {fingerprint} is bob's: add --shared if carol is to have it too\n")
    _, _, err = run("user", "add", "dave", "--key", str(path))
    assert err == (
        f"pipe: key {fingerprint} is bob's: if dave is to have it too, run"
        " 'pipe user add dave' without it, then 'pipe key add --shared dave FILE'\n"
    )
    assert run("key", "add", "carol", str(path), "--shared") == (
        0,
        f"added key {fingerprint} to user carol, who shares it with bob\n",
        "",
    )
    assert [line.split()[:2] for line in run("key", "ls")[1].splitlines()[1:]] == [
        ["bob", fingerprint],
        ["carol", fingerprint],
    ]
    run("key", "rm", "bob", fingerprint)
    assert run("key", "ls", "bob")[1].count("\n") == 1
    assert fingerprint in run("key", "ls", "carol")[1]


def test_tokens(run: Callable[..., Run], data: Path, tmp_path: Path) -> None:
    """Tokens are listed, of one user or of all, and removed by the start of the ID, or all."""
    path = tmp_path / "one.pub"
    path.write_text(public_key())
    for name in ("bob", "carol"):
        run("user", "add", name)
    run("key", "add", "bob", str(path))
    fingerprint = run("key", "ls")[1].splitlines()[1].split()[1]
    bob = Caller("bob", fingerprint)

    async def make() -> list[str]:
        made = []
        async with await Store.open(f"sqlite:///{data}/pipe.db") as store:
            for number in range(3):
                secret = make_secret(TokenKind.API)
                made.append(secret.id)
                token = make_token(bob, secret, TokenKind.API, 9e4, name=f"ci {number}")
                await store.tokens.add(token)
        return made

    first, second, third = asyncio.run(make())
    _, out, _ = run("token", "ls", "bob")
    assert out.splitlines()[0].split() == [
        *("USER", "ID", "KIND", "CREATED", "UNTIL", "LAST", "USED", "FROM", "NAME")
    ]
    for number, token in enumerate((first, second, third)):
        assert re.search(rf"(?m)^bob +{token} +api .* never +- +ci {number}$", out)
    assert run("token", "ls")[1] == out
    assert run("token", "ls", "carol")[1].count("\n") == 1
    assert run("token", "ls", "nobody")[0] == 64

    assert run("token", "rm", "bob", first[:8]) == (0, "removed 1 token of user bob\n", "")
    assert first not in run("token", "ls")[1]
    assert run("token", "rm", "carol", second)[0] == 64
    for words in (("bob",), ("bob", second, "--all")):
        assert run("token", "rm", *words) == (
            64,
            "",
            "pipe: name one token, by its ID, or give --all\n",
        )
    assert run("token", "rm", "bob", "--all")[1] == "removed 2 tokens of user bob\n"
    assert run("token", "ls")[1].count("\n") == 1


def test_bad_key_adds_no_user(run: Callable[..., Run], tmp_path: Path) -> None:
    """A key that is refused leaves no half-made user behind, and the line names the file."""
    (tmp_path / "bad.pub").write_text("hello\n")
    status, _, err = run("user", "add", "bob", "--key", str(tmp_path / "bad.pub"))
    assert status == 64
    assert err.startswith(f"pipe: '{tmp_path}/bad.pub': ")
    assert "bob" not in run("user", "add", "alice") + run("user", "ls")


def test_interrupt(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is status 130, without a traceback."""

    def interrupted(_settings: Settings) -> int:
        raise KeyboardInterrupt

    module = ModuleType("pipe.app")
    monkeypatch.setattr(module, "run", interrupted, raising=False)
    monkeypatch.setitem(sys.modules, "pipe.app", module)
    assert run("serve") == (STATUS_INTERRUPTED, "", "")


def test_broken_pipe(run: Callable[..., Run]) -> None:
    """A reader of stdout that has gone is no reason for words on stderr."""
    run("user", "add", "alice")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        result = subprocess.run(
            [sys.executable, "-m", "pipe", "user", "ls"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (result.returncode, result.stderr) == (STATUS_BROKEN_PIPE, b"")


def test_help_imports_nothing_heavy() -> None:
    """The overview of the commands loads neither ssh nor database nor the settings."""
    program = (
        "import sys\n"
        "from pipe.cli import HELP_WIDTH, main\n"
        "main(['--help'])\n"
        "sys.exit(bool({'asyncssh', 'sqlalchemy', 'pydantic'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize(
    "words", ["--help", "version", "completion bash", "sub -h", "check --port 0"]
)
def test_disk_is_full(words: str) -> None:
    """What cannot be printed is one line, and 74."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ran = subprocess.run(
            [sys.executable, "-m", "pipe", *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (
        74,
        "pipe: cannot write to stdout: No space left on device\n",
    )


@pytest.mark.parametrize(
    ("closed", "status", "err"),
    [
        ("<&-", 0, ""),
        ("2>&-", 0, ""),
        (">&-", 74, "pipe: cannot write to stdout: Bad file descriptor\n"),
        ("<&- >&- 2>&-", 74, ""),
    ],
)
def test_closed_streams(closed: str, status: int, err: str) -> None:
    """A stream that the shell has closed is missed only by who needs it."""
    words = ["sh", "-c", f'exec "$0" -m pipe version {closed}', sys.executable]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (status, err)
