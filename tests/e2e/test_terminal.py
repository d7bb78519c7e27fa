"""Sessions with a terminal (``ssh -t``): streams stay as they are, and there is a way out."""

from __future__ import annotations

import contextlib
import os
import re
import termios
import tty
from typing import IO, TYPE_CHECKING

import pytest

from .payloads import EVERY_BYTE
from .processes import Process, statuses, wait_until
from .server import Server, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

TERMINAL = ("-tt", "-e", "none")
"""Asks for a terminal even where there is none, and leaves `~.` to the stream."""


@contextlib.contextmanager
def terminal() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The two ends of a terminal: the person's and the program's."""
    with contextlib.ExitStack() as ends:
        person, program = (
            ends.enter_context(os.fdopen(end, "r+b", buffering=0)) for end in os.openpty()
        )
        yield person, program


def is_raw(person: IO[bytes]) -> bool:
    """Whether a program has asked to get each key as it is pressed."""
    return not termios.tcgetattr(person)[3] & termios.ICANON


def at(program: IO[bytes], server: Server, command: str) -> Process:
    """Start `ssh -t` with this terminal, which is its own."""
    return server.ssh("alice", command, stdin=program.fileno(), options=("-t",), new_session=True)


@pytest.mark.data_path
def test_terminal_of_a_subscriber_changes_nothing(server: Server) -> None:
    """`ssh -tt sub` writes every byte value as it came."""
    data = EVERY_BYTE * 64
    reader = server.ssh("alice", "sub raw", options=TERMINAL)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub raw", stdin=data)

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == data


@pytest.mark.data_path
def test_terminal_of_a_publisher_changes_nothing(server: Server) -> None:
    """`ssh -tt pub` takes every byte value as it is, `^C` and `^D` included; only EOF ends it."""
    data = EVERY_BYTE * 64
    [reader] = server.subscribe("alice", "sub raw")
    writer = server.ssh("alice", "pub raw", stdin=data, options=TERMINAL)

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == data
    assert writer.output == ""
    assert_lines_begin_at_the_left(writer.text, 2)


@pytest.mark.parametrize(("command", "status"), [("", Status.OK), ("pub -z", Status.USAGE)])
def test_text_for_a_terminal(server: Server, command: str, status: int) -> None:
    """`ssh HOST` makes the person's terminal raw: answers and status text bring it back left."""
    client = server.ssh("alice", command, options=TERMINAL)

    assert client.wait() == status
    assert_lines_begin_at_the_left(client.output or client.text, 1)


def assert_lines_begin_at_the_left(text: str, least: int) -> None:
    """Each of these lines, and there are some, ends as a raw terminal needs it."""
    assert len(re.findall("(?<!\r)\r\n", text)) == text.count("\n") >= least


def test_publisher_at_a_real_terminal(server: Server) -> None:
    """What is typed at a terminal in raw mode arrives byte by byte; hanging up is the end."""
    data = EVERY_BYTE * 8
    [reader] = server.subscribe("alice", "sub typed")
    with terminal() as (person, program):
        tty.setraw(program.fileno())
        writer = server.ssh(
            "alice", "pub typed", stdin=program.fileno(), options=TERMINAL, new_session=True
        )
        program.close()
        for start in range(0, len(data), 128):
            person.write(data[start : start + 128])
            reader.wait_stdout(start + 128)
        person.close()
        assert statuses(writer, reader) == [Status.OK] * 2

    assert reader.stdout.data == data


@pytest.mark.data_path
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("command", ["sub quiet", "sub -k 'q*'", "pub -e quiet"])
def test_control_c_ends_who_reads_no_stream(server: Server, command: str, early: bool) -> None:
    """Ctrl-C comes as a byte with `-t`; whoever sends no stream leaves by it, as without `-t`.

    Also if it comes before the server has begun to look at the command.
    """
    with terminal() as (person, program):
        client = at(program, server, command)
        if early:
            wait_until(lambda: is_raw(person), "ssh has set the terminal to raw mode")
        else:
            server.wait_sessions(**{"publish" if "pub" in command else "subscribe": 1})
        person.write(b"xyz\x03")
        assert client.wait() == Status.INTERRUPTED

    server.wait_empty()


def test_interrupt_is_the_key_that_the_terminal_has(server: Server) -> None:
    """Where the person's terminal has another key for it, it is that one, and Ctrl-C is none."""
    with terminal() as (person, program):
        modes = termios.tcgetattr(program)
        modes[6][termios.VINTR] = b"\x18"
        termios.tcsetattr(program, termios.TCSANOW, modes)
        reader = at(program, server, "sub quiet")
        server.wait_sessions(subscribe=1)
        person.write(b"\x03")
        assert server.run("alice", "pub quiet", stdin=b"still there").wait() == Status.OK
        assert reader.wait() == Status.OK
        assert reader.stdout.data == b"still there"

        reader = at(program, server, "sub quiet")
        server.wait_sessions(subscribe=1)
        person.write(b"\x18")
        assert reader.wait() == Status.INTERRUPTED


@pytest.mark.parametrize("command", ["pub room", "pipe room"])
def test_keys_of_a_writer_are_its_stream(server: Server, command: str) -> None:
    """They are sent, Ctrl-C and Ctrl-D too, and a line says how to leave: with `ssh`'s own `~.`."""
    [reader] = server.subscribe("alice", "sub room")
    with terminal() as (person, program):
        writer = at(program, server, command)
        writer.wait_stderr("to leave, type Enter ~ .")
        person.write(b"\x03\x04x")
        reader.wait_stdout(3)
        assert writer.running
        person.write(b"\r")
        reader.wait_stdout(4)
        person.write(b"~.")
        assert writer.wait() == Status.NO_CONNECTION

    assert reader.wait() == Status.BROKEN
    assert reader.stdout.data == b"\x03\x04x\r"


@pytest.mark.parametrize(
    ("options", "arrives"),
    [(("-tt",), b"a\n~b"), (("-tt", "-e", "none"), b"a\n~~b"), (("-T",), b"a\n~~b")],
)
def test_tilde_at_the_start_of_a_line(
    server: Server, options: tuple[str, ...], arrives: bytes
) -> None:
    """`ssh -t` takes it for itself: a line says so, and which options leave it to the stream."""
    [reader] = server.subscribe("alice", "sub room")
    writer = server.ssh("alice", "pub room", stdin=b"a\n~~b", options=options)

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == arrives
    assert ("with -T or -e none it sends that too" in writer.text) == ("-tt" in options)


def test_key_is_added_at_a_terminal(server: Server) -> None:
    """A key may be pasted into `ssh -t HOST keys add`, up to Ctrl-D."""
    with terminal() as (person, program):
        client = at(program, server, "keys add")
        wait_until(lambda: is_raw(person), "ssh has set the terminal to raw mode")
        person.write(server.keys.public("spare").replace(b"\n", b"\r") + b"\x04")
        assert client.wait() == Status.OK

    assert server.keys.fingerprint("spare") in client.output
