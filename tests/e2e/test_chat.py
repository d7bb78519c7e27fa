"""A room: in terminals, for programs, beside a raw `pipe`; with real clients."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import signal
import struct
import subprocess
import termios
from typing import IO, TYPE_CHECKING, Final

import pytest

from pipe.chat.room import BURST_LINES

from . import clients
from .processes import DEADLINE, HELD, Process, statuses, wait_until
from .server import Server, Status
from .test_terminal import TERMINAL, is_raw, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

STYLE: Final = re.compile(r"\x1b\[[0-9]+m")
CONTROL: Final = re.compile(r"\x1b\[[0-9?]*[A-Za-z]")


class Chat:
    """Somebody with a chat in a terminal of a certain size."""

    def __init__(self, client: Process, person: IO[bytes]) -> None:
        self.client = client
        self._person = person

    def type(self, keys: str) -> None:
        """Press keys."""
        self._person.write(keys.encode())

    def resize(self, columns: int) -> None:
        """Change the size, as a window does."""
        set_size(self._person, columns)
        self.client.send_signal(signal.SIGWINCH)

    @property
    def text(self) -> str:
        """All that was shown, without colours and moves of the cursor."""
        return CONTROL.sub("", STYLE.sub("", self.client.output))

    def wait_for(self, words: str, count: int = 1) -> None:
        """Return once these words were shown so often."""
        found = self.client.stdout.wait(lambda _: self.text.count(words) >= count)
        assert found, f"never saw {words!r}: {self.client.stdout.data!r}\n{self.client}"


def set_size(end: IO[bytes], columns: int) -> None:
    """Give a terminal a size."""
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


@contextlib.contextmanager
def chat(
    server: Server,
    user: str,
    flags: str = "-p tea",
    columns: int = 80,
    options: tuple[str, ...] = (),
) -> Iterator[Chat]:
    """Join a room from a terminal."""
    with terminal() as (person, program):
        set_size(program, columns)
        client = server.ssh(
            user,
            f"chat {flags}",
            stdin=program.fileno(),
            options=("-t", *options),
            new_session=True,
        )
        wait_until(lambda: is_raw(person) or not client.running, "ssh has a terminal")
        yield Chat(client, person)


def test_two_talk_in_terminals(server: Server) -> None:
    """With names, who comes and goes, who is there, actions and nicks."""
    with chat(server, "alice") as alice:
        alice.wait_for("public/tea: here is alice. /help says what you can do")
        with chat(server, "bob", "-p -n b tea") as bob:
            alice.wait_for("-- bob~b has come")
            bob.wait_for("here are alice and bob~b")
            bob.type("hello\r/me waves\r")
            alice.wait_for("bob~b: hello")
            alice.wait_for("* bob~b waves")
            alice.type("/nick al\rhi there\r")
            bob.wait_for("-- alice is now alice~al")
            bob.wait_for("alice~al: hi there")
            alice.wait_for("alice~al: hi there")
            bob.type("/who\r/help\r/nonsense\r")
            bob.wait_for("here are alice~al and bob~b")
            bob.wait_for("/quit           leave")
            bob.wait_for("there is no command /nonsense: see /help")
            bob.type("/quit\r")
            assert bob.client.wait() == Status.OK
        alice.wait_for("-- bob~b has left")
        alice.type("\x04")
        assert alice.client.wait() == Status.OK
        assert alice.client.output.endswith("\r\x1b[K\x1b[?2004l")
        assert "nonsense" not in alice.text


def test_control_c_clears_the_line_or_leaves(server: Server) -> None:
    """130, as from other commands; the terminal is given back."""
    with chat(server, "alice") as alice:
        alice.wait_for("here is alice")
        alice.type("secret\x03\x03")
        assert alice.client.wait() == Status.INTERRUPTED
        assert alice.client.output.endswith("\r\x1b[K\x1b[?2004l")


def test_mention_rings_and_names_complete(server: Server) -> None:
    """Tab writes a name; whoever is named hears a bell, and nobody else does."""
    with chat(server, "alice") as alice, chat(server, "carol") as carol:
        alice.wait_for("carol has come")
        carol.wait_for("here are")
        carol.type("al\tlook\r")
        alice.wait_for("carol: alice: look")
        carol.wait_for("carol: alice: look")
        alice.type("nothing\r")
        alice.wait_for("alice: nothing")

        assert alice.client.output.count("\a") == 1
        assert "\a" not in carol.client.output


def test_no_colours_where_they_are_not_wanted(server: Server) -> None:
    """By the flag, by NO_COLOR from the client, or by a command."""
    sent = ("-o", "SetEnv=NO_COLOR=1")
    with (
        chat(server, "alice", "-p --no-color tea") as alice,
        chat(server, "bob", options=sent) as bob,
        chat(server, "carol") as carol,
    ):
        for one in (alice, bob, carol):
            one.wait_for("/help says")
            one.type("hello\r")
            one.wait_for("hello")
        carol.wait_for("carol: hello")
        assert not STYLE.search(alice.client.output)
        assert not STYLE.search(bob.client.output)
        assert STYLE.search(carol.client.output)
        carol.type("/color off\r")
        carol.wait_for("colours are off")
        before = len(carol.client.output)
        carol.type("plain\r")
        carol.wait_for("carol: plain")
        assert not STYLE.search(carol.client.output[before:])


def test_rows_fit_the_terminal_also_after_it_has_changed(server: Server) -> None:
    """What is said later is laid out for the new width."""
    words = " ".join(["word"] * 40)
    with chat(server, "alice", "-p --no-color tea", columns=30) as alice:
        alice.wait_for("can do")
        bob = server.ssh("bob", "chat -p tea", stdin=HELD)
        alice.wait_for("bob has come")
        bob.write(f"{words}\n".encode())
        alice.wait_for("word", 40)
        assert max(map(len, re.findall(r"(?m)^.*word.*$", alice.text))) < 32
        alice.resize(60)
        alice.type("now\r")
        alice.wait_for("alice: now")
        bob.write(f"{words}\n".encode())
        alice.wait_for("word", 80)
        assert 50 < max(map(len, re.findall(r"(?m)^.*word.*$", alice.text))) < 62


@pytest.mark.parametrize("columns", [0, 1, 65535])
def test_terminal_of_no_sensible_size(server: Server, columns: int) -> None:
    """It is used within bounds."""
    with chat(server, "alice", columns=columns) as alice:
        alice.type("hello\r")
        alice.wait_for("alice: hello")


def test_paste_of_many_lines_is_one_message(server: Server) -> None:
    """It waits for Enter; nobody's line comes between. Too many lines are refused."""
    with chat(server, "alice") as alice:
        alice.wait_for("here is alice")
        bot = server.ssh("bob", "chat -p tea", stdin=HELD)
        alice.wait_for("bob has come")
        alice.type("\x1b[200~one\ntwo\nthree\x1b[201~")
        alice.wait_for("one␊two␊three")
        assert bot.stdout.size == 0
        alice.type("\r")
        bot.wait_stdout(len("alice: one\nalice: two\nalice: three\n"))
        assert bot.output == "alice: one\nalice: two\nalice: three\n"
        alice.type("\x1b[200~" + "spam\n" * 100 + "\x1b[201~\r")
        alice.wait_for("this is too much to paste")
        alice.type("ok\r")
        bot.stdout.wait(lambda output: b"ok" in output.data)
        assert "spam" not in bot.output


def test_late_comers_see_what_was_said(server: Server) -> None:
    """From the ring, with the names of those who said it; a program only if it asks."""
    with chat(server, "alice") as alice:
        alice.type("first\r")
        alice.wait_for("alice: first")
        mallory = server.ssh("mallory", "pipe -p tea", stdin=HELD)
        mallory.write(b"alice: I owe mallory a beer\n")
        alice.wait_for("mallory: alice: I owe")
        with chat(server, "bob") as bob:
            bob.wait_for("here are alice and bob, and 1 other without a chat")
            assert "alice: first" in bob.text
            assert "mallory: alice: I owe mallory a beer" in bob.text
        bot = server.ssh("carol", "chat -p -l 1 tea", stdin=HELD)
        bot.wait_stdout(1)
        assert bot.output == "mallory: alice: I owe mallory a beer\n"


def test_nobody_poses_as_somebody_else(server: Server) -> None:
    """A raw `pipe` may write what it likes: a chat shows whose it is, and escapes what moves."""
    with chat(server, "alice") as alice:
        bot = server.ssh("bob", "chat -p tea", stdin=HELD)
        alice.wait_for("bob has come")
        raw = server.ssh("mallory", "pipe -p tea", stdin=HELD)
        raw.write(
            b"bob: my PIN is 1234\n\x1b[2J\x1b]0;title\x07gone\n* bob leaves\nmallory~x: hi\n"
        )
        alice.wait_for("mallory: bob: my PIN is 1234")
        alice.wait_for(r"mallory: \x1b[2J\x1b]0;title\x07gone")
        alice.wait_for("mallory: * bob leaves")
        alice.wait_for("mallory~x: hi")
        bot.write(b"really\n")
        raw.wait_stdout(len("bob: really\n"))
        assert raw.output == "bob: really\n"
        assert "\x1b[2J" not in alice.client.output


def test_bot_is_a_loop_of_a_shell(server: Server) -> None:
    """Lines in, lines out: it answers whom it hears, and a command line says one thing and ends."""
    key = server.keys.openssh("bot")
    server.introduce("bot")
    words = clients.openssh(server.port, key, "bot", "chat -p tea")
    script = (
        'coproc room { "$@"; }; while IFS= read -r line <&"${room[0]}"; do'
        ' case $line in *": ping") echo "pong for ${line%%:*}" >&"${room[1]}";; esac; done'
    )
    bot = server.adopt(
        Process(["bash", "-c", script, "bot", *words], environment=clients.bare_environment())
    )
    server.wait_sessions(pipe=1)
    with chat(server, "alice") as alice:
        alice.wait_for("here are bot and alice")
        alice.type("ping\r")
        alice.wait_for("bot: pong for alice")
        assert server.run("carol", "chat -p tea", stdin=b"done\nfor today").wait() == Status.OK
        alice.wait_for("carol: for today")
        alice.wait_for("carol has left")
    assert bot.running


def test_json_for_programs(server: Server) -> None:
    """All kinds of events, a line each, with the text as it came."""
    bot = server.ssh("bot", "chat -p --json tea", stdin=HELD)
    server.wait_sessions(pipe=1)
    assert server.run("carol", "chat -p -n c tea", stdin=b"\x1b[2J\\\n").wait() == Status.OK
    bot.stdout.wait(lambda output: output.data.count(b"\n") >= 3)

    assert [json.loads(line) for line in bot.output.splitlines()] == [
        {"type": "join", "user": "carol", "name": "carol~c"},
        {"type": "message", "user": "carol", "name": "carol~c", "text": "\x1b[2J\\"},
        {"type": "leave", "user": "carol", "name": "carol~c"},
    ]


def test_readers_of_the_topic_see_the_end_of_a_whole_stream(server: Server) -> None:
    """Who leaves a chat has not broken it off."""
    [reader] = server.subscribe("alice", "sub -p tea")
    writer = server.run("bob", "chat -p tea", stdin=b"hello\n")

    assert statuses(writer, reader) == [Status.OK, Status.OK]
    assert reader.output == "bob: hello\n"


def test_one_who_floods_is_slowed_and_others_are_heard(server: Server) -> None:
    """In a chat he waits himself; from outside his lines are left out, and counted."""
    with chat(server, "alice") as alice:
        alice.wait_for("here is alice")
        slow = server.ssh("mallory", "chat -p tea", stdin=b"spam\n" * 10_000)
        alice.wait_for("mallory: spam", int(BURST_LINES) - 1)
        raw = server.ssh("mallory", "pipe -p tea", stdin=b"noise\n" * 500_000)
        alice.wait_for("mallory sends too much: lines are left out")
        alice.type("still here\r")
        alice.wait_for("alice: still here")
        assert alice.text.count("noise") <= BURST_LINES
        assert slow.running
        raw.kill()
        slow.kill()


def test_keys_that_mean_harm(server: Server) -> None:
    """Megabytes of keys, pastes and sequences that never end keep nobody else waiting."""
    harm = b"\x01x\x1b[A" * 100_000 + b"\x1b[" + b"1" * 500_000 + b"\x1b[200~" + b"y" * 2_000_000
    with chat(server, "alice") as alice:
        alice.wait_for("here is alice")
        mallory = server.ssh("mallory", "chat -p tea", stdin=harm, options=TERMINAL, keep=False)
        alice.wait_for("mallory has come")
        bob = server.ssh("bob", "chat -p tea", stdin=HELD)
        for number in range(5):
            bob.write(b"hello %d\n" % number)
            alice.wait_for(f"bob: hello {number}")
        mallory.kill()
        alice.wait_for("mallory has left")


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("chat -p --json tea", TERMINAL, "--json is for programs"),
        ("chat -n 'a b' tea", (), "a nick has 1 to 16 of"),
        ("chat", (), "chat needs a TOPIC"),
        ("chat --keep 0 --linger 1h tea", (), "--linger needs something to keep"),
        ("chat 'te*'", (), "patterns work only with"),
    ],
)
def test_mistakes(server: Server, command: str, options: tuple[str, ...], says: str) -> None:
    """One line says what is wrong, with status 64."""
    client = server.ssh("alice", command, options=options)

    assert client.wait() == Status.USAGE
    assert says in client.text


def test_dumb_terminal_is_sent_to_plain_lines(server: Server) -> None:
    """There is no way to draw in it."""
    with terminal() as (_, program):
        client = subprocess.run(
            clients.openssh(
                server.port, server.keys.openssh("alice"), "alice", "chat -p tea", ("-t",)
            ),
            stdin=program,
            capture_output=True,
            timeout=DEADLINE,
            env={**clients.bare_environment(), "TERM": "dumb"},
            check=False,
        )

    assert client.returncode == Status.USAGE
    assert b"leave out -t" in client.stderr


def test_rights_are_those_of_a_pipe(server: Server) -> None:
    """Somebody else's room needs a grant, and its end ends the chat."""
    server.introduce("alice", "bob")
    assert server.run("bob", "chat alice/room").wait() == Status.DENIED
    assert server.run("alice", "grant room bob").wait() == Status.OK
    with chat(server, "bob", "alice/room") as bob:
        bob.wait_for("here is bob")
        assert server.run("alice", "revoke room bob").wait() == Status.OK
        assert bob.client.wait() == Status.DENIED
        assert "access to alice/room has ended" in bob.client.text
        assert bob.client.output.endswith("\r\x1b[K\x1b[?2004l")
