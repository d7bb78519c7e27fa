"""User names, topic names and patterns: the only place that defines what a name is.

    name      means, said by alice
    build     alice/build: a name without "/" is in the caller's own space
    bob/a/b   the topic a/b in bob's space: with a "/", the first segment is the owner
    -p build  public/build: the space that every user shares
    build-*   every topic of alice's whose only segment starts with "build-"
    bob/**    every topic of bob's
    **        every topic in every space

Every front (SSH, later HTTP) calls these functions, so a name means the same everywhere.  Names are
checked as bytes before anything is decoded, and never unescaped or normalised: two names are the
same topic only if their bytes are equal.  After that a name is a tuple, and no code compares string
prefixes.  `pipe.rights.access` decides whether the caller may use a name.
"""

from __future__ import annotations

import base64
import re
import secrets
import string
from dataclasses import dataclass
from typing import TypeVar

from pipe.errors import BadName

PUBLIC = "public"
"""The owner of topics that every user may use."""

EVERYONE = "@users"
"""Stands for everyone with an account in a list of grantees.  No user name has an ``@``."""

RESERVED_USERS = frozenset({PUBLIC, "admin", "root", "anonymous"})
"""Names that nobody can register: they suggest a role that a plain user does not have."""

MAX_USER_LENGTH = 32
"""Characters: the limit of Linux's ``useradd``, so that account names carry over."""

MAX_SEGMENTS = 8
"""Segments of a path, not counting the owner: deeper than any naming scheme we know."""

MAX_SEGMENT_LENGTH = 64
"""Characters: a SHA-256 digest in hexadecimal fits."""

MAX_NAME_LENGTH = 255
"""Bytes of a whole ``owner/path``: the limit for a file name on common file systems."""

_RANDOM_BYTES = 16
"""128 bits, so that a random path cannot be guessed."""

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
"""A key's fingerprint as ``ssh-keygen -l`` prints it."""

_SHOWN_LENGTH = 64
"""Characters of a user's input that an error message repeats."""

_LOWERCASE = string.ascii_lowercase.encode()
_USER_BYTES = _LOWERCASE + string.digits.encode() + b"_-"
_SEGMENT_BYTES = string.ascii_letters.encode() + string.digits.encode() + b"._:@+-"

_USER_RULE = "use a letter a-z, then up to 31 of a-z 0-9 _ -"
_SEGMENT_RULE = f"use 1 to {MAX_SEGMENT_LENGTH} of A-Z a-z 0-9 . _ : @ + - between slashes"

_ANY = "*"
_REST = "**"


@dataclass(frozen=True, slots=True, order=True)
class TopicName:
    """A topic's place: whose space it is in, and its path there.

    Instances come from `parse_topic`, or are made from a valid owner and `random_path`.
    """

    owner: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join((self.owner, *self.path))


@dataclass(frozen=True, slots=True, order=True)
class Pattern:
    """A set of topics, existing and future.

    ``*`` stands for any number of characters within one segment, also none.  The owner counts as a
    segment, even ``public``.  ``**`` as the last segment stands for one or more whole segments.
    Instances come from `parse_pattern`.
    """

    owner: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join((self.owner, *self.path))

    def matches(self, topic: TopicName) -> bool:
        """Return whether the topic is in the set, in time linear in the length of its name."""
        open_ended = self.path[-1] == _REST
        segments = self.path[:-1] if open_ended else self.path
        surplus = len(topic.path) - len(self.path)
        if surplus < 0 or (surplus > 0 and not open_ended):
            return False
        return _segment_matches(self.owner, topic.owner) and all(
            map(_segment_matches, segments, topic.path)
        )


_Name = TypeVar("_Name", TopicName, Pattern)


def parse_user(raw: str | bytes) -> str:
    """Check a user name: ``[a-z][a-z0-9_-]{0,31}``, and not one of `RESERVED_USERS`.

    Raises:
        BadName: With one sentence that says what is wrong and what is allowed.
    """
    user = _decode(raw, "user name", _USER_BYTES, MAX_USER_LENGTH, _USER_RULE)
    if user[0] not in string.ascii_lowercase:
        raise BadName(f"user name {quoted(user)} does not start with a letter: {_USER_RULE}")
    if user in RESERVED_USERS:
        raise BadName(f"user name {quoted(user)} is reserved: choose another one")
    return user


def parse_grantee(text: str) -> str:
    """Check one entry of an access list: a user, a key's fingerprint, or `EVERYONE`.

    Raises:
        BadName: With one sentence that says what is wrong and what is allowed.
    """
    if text == EVERYONE or is_fingerprint(text):
        return text
    try:
        return parse_user(text)
    except BadName as error:
        raise BadName(
            f"{error.message}; a key is SHA256: and 43 base64 characters, {EVERYONE} is everyone"
        ) from None


def is_fingerprint(grantee: str) -> bool:
    """Return whether a grantee is a key."""
    return _FINGERPRINT.fullmatch(grantee) is not None


def parse_topic(raw: str | bytes, *, caller: str, public: bool = False) -> TopicName:
    """Resolve the name of one topic.

    Args:
        raw: The name as the user gave it.
        caller: The user whose space holds a name without ``/``.
        public: The flag ``-p``: the name is in the public space, even if it does not say so.

    Raises:
        BadName: With one sentence that says what is wrong and what is allowed.
    """
    if is_pattern(raw):
        raise BadName("this topic name has a '*': patterns work only with sub and ls")
    return _resolve(TopicName, raw, caller, public=public)


def parse_pattern(raw: str | bytes, *, caller: str, public: bool = False) -> TopicName | Pattern:
    """Resolve what ``sub`` and ``ls`` take: a topic's name, or a pattern if it has a ``*``.

    The arguments and the rule for the owner are those of `parse_topic`, with one exception: a bare
    ``**`` is every topic in every space.

    Raises:
        BadName: With one sentence that says what is wrong and what is allowed.
    """
    if not is_pattern(raw):
        return parse_topic(raw, caller=caller, public=public)
    return _resolve(Pattern, raw, caller, public=public)


def is_pattern(raw: str | bytes) -> bool:
    """Return whether a name has a ``*``, and so can only be a pattern."""
    return _ANY in raw if isinstance(raw, str) else _ANY.encode() in raw


def random_path() -> str:
    """Make a path of one segment that nobody can guess: 128 bits in lowercase base32."""
    return base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode().rstrip("=").lower()


def escape(text: str) -> str:
    r"""Make text from another user safe to print.

    Characters that move the cursor, change the direction of writing, are invisible or are spaces
    other than U+0020 (all that `str.isprintable` rejects) become ``\xNN``, ``\uNNNN`` or
    ``\UNNNNNNNN``.  A backslash is doubled, so the output says exactly what came.  Other Unicode
    stays as it is.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape_character, text))


def quoted(text: str) -> str:
    """Escape text and put it in quotes for an error message, cutting it if it is long."""
    cut = "..." if len(text) > _SHOWN_LENGTH else ""
    return f"'{escape(text[:_SHOWN_LENGTH])}{cut}'"


def _escape_character(character: str) -> str:
    if character == "\\":
        return r"\\"
    if character.isprintable():
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _decode(raw: str | bytes, kind: str, allowed: bytes, longest: int, rule: str) -> str:
    """Turn a name into text after checking that all its bytes are allowed."""
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    if not data:
        raise BadName(f"the {kind} is empty: {rule}")
    if len(data) > longest:
        raise BadName(f"the {kind} has {len(data)} bytes: at most {longest} are allowed")
    if data.translate(None, allowed):
        raise BadName(f"{_complaint(data, kind, allowed)}: {rule}")
    return data.decode("ascii")


def _complaint(data: bytes, kind: str, allowed: bytes) -> str:
    """Say what is wrong with a name that has bytes other than the allowed ones."""
    if 0 in data:
        return f"the {kind} has a NUL byte"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return f"the {kind} is not valid UTF-8"
    if "%" in text:
        return f"{kind} {quoted(text)} has a '%', and percent-encoding is not decoded"
    culprit = next(character for character in text if character not in allowed.decode())
    return f"{kind} {quoted(text)} has {quoted(culprit)} in it"


def _resolve(form: type[_Name], raw: str | bytes, caller: str, *, public: bool) -> _Name:
    """Find the owner and path of a topic's name or pattern, and check both."""
    kind = "topic name" if form is TopicName else "pattern"
    stars = b"" if form is TopicName else _ANY.encode()
    text = _decode(raw, kind, _SEGMENT_BYTES + b"/" + stars, MAX_NAME_LENGTH, _SEGMENT_RULE)
    if text.startswith("/"):
        raise BadName(f"{kind} {quoted(text)} starts with a '/': write OWNER/NAME, or NAME alone")
    if text.endswith("/"):
        raise BadName(
            f"{kind} {quoted(text)} ends with a '/': write a name after it or leave it out"
        )
    if "//" in text:
        raise BadName(f"{kind} {quoted(text)} has an empty segment: write one '/' between segments")

    first, *further = text.split("/")
    if public:
        owner, path = PUBLIC, further if first == PUBLIC and further else [first, *further]
    elif further:
        owner, path = first, further
        _check_owner(owner, kind, text)
    elif first == _REST:
        owner, path = _ANY, [_REST]
    else:
        owner, path = caller, [first]

    if len(path) > MAX_SEGMENTS:
        raise BadName(
            f"{kind} {quoted(text)} has {len(path)} segments after its owner: "
            f"at most {MAX_SEGMENTS} are allowed"
        )
    for segment in path[:-1]:
        _check_segment(segment, kind, text)
    if path[-1] != _REST:
        _check_segment(path[-1], kind, text)
    name = form(owner, tuple(path))
    if len(str(name)) > MAX_NAME_LENGTH:
        raise BadName(
            f"{kind} {quoted(text)} has {len(str(name))} bytes with its owner: "
            f"at most {MAX_NAME_LENGTH} are allowed"
        )
    return name


def _check_owner(owner: str, kind: str, text: str) -> None:
    if owner == PUBLIC:
        return
    if _ANY in owner:
        _check_segment(owner, kind, text)
        # A star may stand for a letter, so the rest need not start with one.
        _decode(owner, f"owner in {kind}", _USER_BYTES + b"*", MAX_USER_LENGTH, _USER_RULE)
        return
    try:
        parse_user(owner)
    except BadName as error:
        raise BadName(f"the first segment of a {kind} is its owner: {error.message}") from None


def _check_segment(segment: str, kind: str, text: str) -> None:
    if _REST in segment:
        raise BadName(f"pattern {quoted(text)} has a '**' that is not the last segment by itself")
    if segment in {".", ".."}:
        raise BadName(f"{kind} {quoted(text)} has the segment '{segment}', which is not allowed")
    if len(segment) > MAX_SEGMENT_LENGTH:
        raise BadName(
            f"{kind} {quoted(text)} has a segment of {len(segment)} characters: "
            f"at most {MAX_SEGMENT_LENGTH} are allowed"
        )


def _segment_matches(pattern: str, text: str) -> bool:
    """Match one segment, where a star stands for any characters or none.

    The first and last piece are anchored, and each middle piece is taken where it first occurs
    after the one before.  If any choice matches, this one does, so nothing is tried twice.
    """
    first, *pieces = pattern.split(_ANY)
    if not pieces:
        return pattern == text
    last = pieces.pop()
    position, end = len(first), len(text) - len(last)
    if position > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in pieces:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True
