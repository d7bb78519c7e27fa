"""Whatever reads text or a key from a stranger, an account or a file: each as a target for fuzzing.

An input's first byte chooses the reader, the rest is what it reads.  A reader returns, or refuses
with a sentence that can be printed on one line of a terminal; what it accepts keeps its promises.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncssh

from pipe.errors import AccessDenied, BadName, UsageError
from pipe.language.durations import MAX_DURATION, format_duration, parse_duration
from pipe.language.names import (
    Pattern,
    TopicName,
    escape,
    parse_grantee,
    parse_pattern,
    parse_topic,
    parse_user,
)
from pipe.language.quantities import format_size, parse_size
from pipe.language.requests import parse
from pipe.limits.bounds import parse_networks
from pipe.rights.scopes import MAX_PATTERN_BYTES, Reach
from pipe.ssh.login.certificates import judge, read_authorities, read_certificate
from pipe.ssh.login.key_files import parse_line
from pipe.ssh.login.signatures import fingerprint_of, is_certificate, name_of
from pipe.store import read_public_key

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS: Final = Path(__file__).with_name("corpus") / "texts.txt"
"""A line for each seed: the reader's name, a space, and the text with Python's escapes."""

TOPIC: Final = parse_topic("alice/ci/build-7", caller="alice")
ADDRESS: Final = ipaddress.ip_address("192.0.2.1")
NOW: Final = 1_750_000_000.0


class BrokenReader(AssertionError):
    """A reader did what none may do; the message has the input."""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _read_topic(data: bytes) -> None:
    for public in (False, True):
        name = parse_topic(data, caller="alice", public=public)
        assert len(str(name)) <= 255 + len("public/")
        assert parse_topic(str(name), caller="bob") == name


def _read_pattern(data: bytes) -> None:
    pattern = parse_pattern(data, caller="alice")
    if isinstance(pattern, Pattern):
        pattern.matches(TOPIC)
    else:
        assert isinstance(pattern, TopicName)


def _read_reach(data: bytes) -> None:
    reach = Reach.parse(_text(data).split(","), owner="alice")
    reach.covers(TOPIC)
    assert len("\n".join(reach.shown)) <= MAX_PATTERN_BYTES
    assert Reach.parse(reach.shown, owner="bob") == reach


def _read_user(data: bytes) -> None:
    assert parse_user(data).encode() == data


def _read_duration(data: bytes) -> None:
    seconds = parse_duration(_text(data))
    assert 0 <= seconds <= MAX_DURATION
    format_duration(seconds)


def _read_size(data: bytes) -> None:
    size = parse_size(_text(data))
    assert parse_size(format_size(size)) == size


def _read_key_line(data: bytes) -> None:
    entry = parse_line(_text(data))
    entry.check(ADDRESS, NOW)


def _read_networks(data: bytes) -> None:
    try:
        parse_networks(_text(data))
    except ValueError as error:
        raise UsageError("no networks") from error


def _read_certificate(data: bytes) -> None:
    if is_certificate(name_of(data)):
        certificate = read_certificate(data)
        authorities = {fingerprint_of(certificate.authority)}
        judge(certificate, user="alice", address=str(ADDRESS), now=NOW, authorities=authorities)


def _escape(data: bytes) -> None:
    assert escape(_text(data)).isprintable()


READERS: Final[dict[str, Callable[[bytes], object]]] = {
    "request": lambda data: parse(_text(data)),
    "user": _read_user,
    "grantee": lambda data: parse_grantee(_text(data)),
    "topic": _read_topic,
    "pattern": _read_pattern,
    "duration": _read_duration,
    "size": _read_size,
    "key-line": _read_key_line,
    "public-key": lambda data: read_public_key(_text(data)),
    "authorities": lambda data: read_authorities(_text(data)),
    "networks": _read_networks,
    "certificate": _read_certificate,
    "escape": _escape,
    "reach": _read_reach,
}

REFUSALS: Final = (UsageError, BadName, AccessDenied)


def check_text(content: bytes) -> None:
    """Let one reader read.

    Raises:
        BrokenReader: it neither took the text nor refused it in order.
    """
    if not content:
        return
    name, reader = list(READERS.items())[content[0] % len(READERS)]
    try:
        reader(content[1:])
    except REFUSALS as error:
        if not error.message.replace("\n", "").isprintable():
            raise BrokenReader(f"{name}: unprintable {error.message!r}: {content!r}") from error
    except Exception as error:
        raise BrokenReader(f"{name}: {error!r}: {content!r}") from error


def make_input(name: str, text: bytes) -> bytes:
    """The input that lets the reader of this name read this."""
    return bytes([list(READERS).index(name)]) + text


def load_texts() -> list[bytes]:
    """The inputs to begin with: those of the corpus, and a certificate."""
    inputs = []
    for line in CORPUS.read_text(encoding="ascii").splitlines():
        name, _, shown = line.partition(" ")
        inputs.append(make_input(name, shown.encode().decode("unicode_escape").encode("latin-1")))
    return [*inputs, make_input("certificate", make_certificate())]


def make_certificate() -> bytes:
    """A user's certificate with all options that are known."""
    authority = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_user_certificate(
        asyncssh.generate_private_key("ssh-ed25519"),
        "a key",
        principals=["alice"],
        valid_after=int(NOW) - 1,
        valid_before=int(NOW) + 1,
        force_command="sub news",
        source_address=["192.0.2.0/24"],
    )
    return certificate.public_data
