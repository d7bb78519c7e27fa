"""What a user asks for: the string of an SSH exec request, read into a frozen request.

One table, `COMMANDS`, says which commands and flags there are.  Parsing, error messages and help
all come from it, and the defaults that help prints are those of the request classes: a new command
is a class and an entry.  Names of topics stay as the user wrote them; `pipe.names` resolves them
once the caller is known.

The parser is our own because users bring Go's flags along from pico's ``pipe``, where a boolean
flag has a value only after ``=``: ``-b=false`` is false, ``-b false`` is true and a topic named
``false``.  Neither argparse nor click has such flags: an optional value takes the next word in
both, and click reads ``-b=false`` as the value ``=false``.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import re
import shlex
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pipe.durations import SECONDS_PER_DAY, format_duration, parse_duration
from pipe.errors import BadName, UsageError
from pipe.names import parse_user, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_COMMAND_LENGTH = 4096
"""Bytes: a name, every flag and an access list of fifty keys fit; it bounds the work of parsing."""

MAX_MIN_SUBSCRIBERS = 10_000
"""Subscribers that a publisher may wait for: above what one server holds on one topic."""

MAX_STATUS = 255
"""What a Unix process can exit with: its parent sees eight bits."""

DEFAULT_TIMEOUT = 30.0 * SECONDS_PER_DAY
"""Seconds a publisher waits for its subscribers: as long as pico's does."""

SSH_PORT = 22
"""The port that ``ssh`` uses unasked (RFC 4253, section 4.1)."""

HELP_WIDTH = 80
"""Columns of help: a terminal nobody has made wider."""

_HELP_INDENT = 24
"""Columns before the text that explains a flag."""

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
"""A key's fingerprint as ``ssh-keygen -l`` prints it."""

_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
"""The words of Go's ``strconv.ParseBool``, in lower case."""


class Dispatch(enum.Enum):
    """Which subscribers get a chunk."""

    MULTICAST = "multicast"
    ROUND_ROBIN = "round_robin"


class Framing(enum.Enum):
    """What round-robin keeps whole: a chunk as it came, a line, or a record that ends with NUL."""

    NONE = "none"
    LINE = "line"
    NUL = "nul"


class OnSlow(enum.Enum):
    """What happens when a reader falls behind: all wait, it loses chunks, or it is cut off."""

    BLOCK = "block"
    DROP = "drop"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class Publish:
    """``pub``: write to a topic, to a random one if none is named.

    ``timeout`` is in seconds, ``exit_status`` is what the subscribers exit with.
    """

    topic: str | None = None
    block: bool = True
    timeout: float = DEFAULT_TIMEOUT
    min_subscribers: int = 1
    empty: bool = False
    public: bool = False
    access: tuple[str, ...] | None = None
    dispatch: Dispatch = Dispatch.MULTICAST
    framing: Framing = Framing.NONE
    clean: bool = False
    exit_status: int = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``sub``: read from a topic, or from all that match a pattern."""

    topic: str
    public: bool = False
    access: tuple[str, ...] | None = None
    clean: bool = False
    keep_alive: bool = False
    on_slow: OnSlow = OnSlow.BLOCK


@dataclass(frozen=True, slots=True)
class Pipe:
    """``pipe``: read from and write to a topic, a random one if none is named."""

    topic: str | None = None
    replay: bool = False
    public: bool = False
    access: tuple[str, ...] | None = None
    clean: bool = False
    dispatch: Dispatch = Dispatch.MULTICAST
    framing: Framing = Framing.NONE
    on_slow: OnSlow = OnSlow.BLOCK


@dataclass(frozen=True, slots=True)
class List:
    """``ls``: the topics that the caller may see, or those of them that match a pattern."""

    pattern: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """``whoami``: who the server takes the caller for."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class Help:
    """``help``: the commands, or one command's flags."""

    command: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """``version``: the version that the server runs."""


Request: TypeAlias = Publish | Subscribe | Pipe | List | WhoAmI | Help | Version


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: the request's field that it sets, its spellings, its value's reader, its help.

    ``convert`` raises UsageError for a bad value; without a ``placeholder`` the flag is boolean.
    """

    field: str
    spellings: str
    convert: Callable[[str], object]
    text: str
    placeholder: str = ""

    @property
    def is_boolean(self) -> bool:
        """Whether the flag stands by itself, and takes a value only after ``=``."""
        return not self.placeholder

    @property
    def usage(self) -> str:
        """The flag as help shows it, so that long spellings line up."""
        *short, long = self.spellings.split()
        indent = f"{short[0]}, " if short else " " * 4
        return f"{indent}{long} {self.placeholder}".rstrip()


@dataclass(frozen=True, slots=True)
class Argument:
    """A word without a dash: the request's field that it sets, its name in help, its check."""

    field: str
    placeholder: str
    required: bool = False
    convert: Callable[[str], object] = str


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name, the request that it makes, its help, arguments and flags."""

    name: str
    request: type[Request]
    summary: str
    detail: str = ""
    arguments: tuple[Argument, ...] = ()
    flags: tuple[Flag, ...] = ()

    @property
    def all_flags(self) -> tuple[Flag, ...]:
        """The command's own flags and the one that each command has."""
        return (*self.flags, HELP)

    @property
    def usage(self) -> str:
        """The command's name and arguments, in brackets those that may be left out."""
        words = (a.placeholder if a.required else f"[{a.placeholder}]" for a in self.arguments)
        return " ".join((self.name, *words))

    def find_flag(self, spelling: str, word: str) -> Flag:
        """Look up ``-x`` or ``--long``, found in ``word``, or raise UsageError."""
        for flag in self.all_flags:
            if spelling in flag.spellings.split():
                return flag
        long = "--" + word.lstrip("-").partition("=")[0]
        hint = _did_you_mean(long, (flag.spellings.split()[-1] for flag in self.all_flags))
        raise UsageError(
            f"unknown flag {quoted(spelling)}{hint} 'ssh HOST {self.name} -h' lists the flags"
        )


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise UsageError("a boolean is true, false, t, f, 1 or 0") from None


def _whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        # int() alone would take "1_000", " 7" and the digits of every script.
        if text.isascii() and text.isdigit() and lowest <= int(text) <= highest:
            return int(text)
        raise UsageError(f"it takes a whole number from {lowest} to {highest}")

    return convert


def _one_of(choices: type[enum.Enum]) -> Callable[[str], enum.Enum]:
    def convert(text: str) -> enum.Enum:
        try:
            return choices(text)
        except ValueError:
            *names, last = (str(choice.value) for choice in choices)
            raise UsageError(f"it takes {', '.join(names)} or {last}") from None

    return convert


def _access_list(text: str) -> tuple[str, ...]:
    entries = tuple(dict.fromkeys(entry.strip() for entry in text.split(",")))
    for entry in entries:
        if not entry:
            raise UsageError("the list has an empty entry: write it like bob,carol")
        if _FINGERPRINT.fullmatch(entry):
            continue
        try:
            parse_user(entry)
        except BadName as error:
            key = "a key is SHA256: and 43 base64 characters"
            raise UsageError(f"{error.message}; {key}") from None
    return entries


def _command_name(text: str) -> str:
    return _find_command(text).name


HELP = Flag("help", "-h --help", _boolean, "print this help")

_JSON = Flag("json", "--json", _boolean, "print JSON")
_ACCESS_TEXT = "users and keys (SHA256:...) that may join while this session lives"
_SHARED = (
    Flag("public", "-p --public", _boolean, "use the space that all users share"),
    Flag("access", "-a --access", _access_list, _ACCESS_TEXT, "LIST"),
    Flag("clean", "-c --clean", _boolean, "print no status text"),
)
_DISPATCH_TEXT = "multicast sends a chunk to every subscriber, round_robin to one in turn"
_FRAMING_TEXT = "what round_robin keeps whole: line, nul (records that end in NUL) or none"
_WRITING = (
    Flag("dispatch", "-d --dispatch", _one_of(Dispatch), _DISPATCH_TEXT, "HOW"),
    Flag("framing", "--frame", _one_of(Framing), _FRAMING_TEXT, "WHAT"),
)
_ON_SLOW_TEXT = "if this reader falls behind: block the publishers, drop chunks, or disconnect"
_READING = (Flag("on_slow", "-s --on-slow", _one_of(OnSlow), _ON_SLOW_TEXT, "HOW"),)

_COUNT = _whole_number(1, MAX_MIN_SUBSCRIBERS)
_STATUS = _whole_number(0, MAX_STATUS)

COMMANDS = (
    Command(
        "pub",
        Publish,
        "send stdin to every subscriber of a topic",
        "Waits for a subscriber before it reads a byte. Without a topic it makes a random one.",
        (Argument("topic", "TOPIC"),),
        (
            Flag("block", "-b --block", _boolean, "wait for subscribers; -b=false sends at once"),
            Flag("timeout", "-t --timeout", parse_duration, "how long to wait for them", "DUR"),
            Flag("min_subscribers", "-m --min-subs", _COUNT, "how many to wait for", "N"),
            Flag("empty", "-e --empty", _boolean, "send no bytes: only end who waits to read"),
            Flag("exit_status", "-x --exit", _STATUS, "what every subscriber exits with", "N"),
            *_SHARED,
            *_WRITING,
        ),
    ),
    Command(
        "sub",
        Subscribe,
        "write to stdout what a topic's publishers send",
        "Ends when the last publisher has ended. In a pattern, * stands for anything between two"
        " slashes and ** at the end for all that follows.",
        (Argument("topic", "TOPIC", required=True),),
        (
            Flag("keep_alive", "-k --keep-alive", _boolean, "stay for the next publisher"),
            *_READING,
            *_SHARED,
        ),
    ),
    Command(
        "pipe",
        Pipe,
        "read and write a topic at once",
        "Never waits. Without a topic it makes a random one.",
        (Argument("topic", "TOPIC"),),
        (
            Flag("replay", "-r --replay", _boolean, "also get back what this pipe writes"),
            *_READING,
            *_SHARED,
            *_WRITING,
        ),
    ),
    Command(
        "ls",
        List,
        "list the topics that you may see",
        "Shows their members, their rates, who waits and who holds the others up.",
        (Argument("pattern", "PATTERN"),),
        (_JSON,),
    ),
    Command("whoami", WhoAmI, "show your user, key, address and limits", flags=(_JSON,)),
    Command("version", Version, "show the server's version"),
    Command(
        "help",
        Help,
        "show this list, or one command's flags",
        arguments=(Argument("command", "COMMAND", convert=_command_name),),
    ),
)
"""Every command, in the order of help."""


def parse(command: str) -> Request:
    """Read the command of an exec request.

    Args:
        command: The string as it came; an empty one asks for help.

    Raises:
        UsageError: With one line that names what is wrong and what is allowed.
    """
    words = _split(command)
    if not words or words[0] in HELP.spellings.split():
        return Help()
    spec = _find_command(words[0])
    values: dict[str, object] = {}
    arguments: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word == "--":
            arguments.extend(rest)
        elif word.startswith("-") and word != "-":
            values.update(_read_flags(spec, word, rest))
        else:
            arguments.append(word)
        if values.get(HELP.field):
            return Help(spec.name)
    values.pop(HELP.field, None)
    values.update(_read_arguments(spec, arguments))
    build: Callable[..., Request] = spec.request
    return build(**values)


def help_text(command: str | None, host: str, port: int) -> str:
    """Write the list of commands, or the help of one, for a user who reaches us at host and port.

    Returns:
        Lines that end with LF, wrapped to `HELP_WIDTH`.

    Raises:
        UsageError: There is no such command.
    """
    ssh = f"ssh {host}" if port == SSH_PORT else f"ssh -p {port} {host}"
    lines = _overview(ssh) if command is None else _details(_find_command(command), ssh)
    return "".join(f"{line}\n" for line in lines)


def _split(command: str) -> list[str]:
    length = len(command.encode("utf-8", "surrogatepass"))
    if length > MAX_COMMAND_LENGTH:
        raise UsageError(
            f"the command has {length} bytes: at most {MAX_COMMAND_LENGTH} are allowed"
        )
    try:
        return shlex.split(command)
    except ValueError as error:
        reason = str(error).lower()
        raise UsageError(f"the command cannot be split into words: {reason}") from None


def _find_command(name: str) -> Command:
    for spec in COMMANDS:
        if spec.name == name:
            return spec
    hint = _did_you_mean(name, (spec.name for spec in COMMANDS))
    raise UsageError(f"unknown command {quoted(name)}{hint} 'ssh HOST help' lists the commands")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word.lower(), known, n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ";"


def _read_flags(spec: Command, word: str, rest: Iterator[str]) -> Iterator[tuple[str, object]]:
    """Read the flags in one word, and from the words that follow the value that one may need."""
    if word.startswith("--"):
        spelling, equals, tail = word.partition("=")
        yield _read_flag(spec.find_flag(spelling, word), spelling, equals + tail, rest)
        return
    letters = word[1:]
    while letters:
        spelling, letters = f"-{letters[0]}", letters[1:]
        flag = spec.find_flag(spelling, word)
        if flag.is_boolean and not letters.startswith("="):
            yield flag.field, True
        else:
            tail = letters if not letters or letters.startswith("=") else f"={letters}"
            yield _read_flag(flag, spelling, tail, rest)
            return


def _read_flag(flag: Flag, spelling: str, tail: str, rest: Iterator[str]) -> tuple[str, object]:
    """Read one flag; ``tail`` is empty, or ``=`` and the value."""
    value: str | None
    if tail:
        value = tail[1:]
    elif flag.is_boolean:
        value = "true"
    else:
        value = next(rest, None)
    if value is None:
        raise UsageError(f"flag {spelling} needs a value: {spelling} {flag.placeholder}")
    try:
        return flag.field, flag.convert(value)
    except UsageError as error:
        raise UsageError(
            f"flag {spelling} has the value {quoted(value)}: {error.message}"
        ) from None


def _read_arguments(spec: Command, words: list[str]) -> dict[str, object]:
    surplus = words[len(spec.arguments) :]
    if surplus:
        allowed = " and ".join(argument.placeholder for argument in spec.arguments)
        hint = ""
        if any(word.lower() in _BOOLEANS for word in words):
            hint = "; a flag such as -b takes its value after '=', as in -b=false"
        raise UsageError(
            f"{spec.name} takes {f'one {allowed}' if allowed else 'no argument'}, "
            f"and {quoted(surplus[0])} is too many{hint}"
        )
    missing = spec.arguments[len(words) :]
    if missing and missing[0].required:
        raise UsageError(
            f"{spec.name} needs a {missing[0].placeholder}; 'ssh HOST {spec.name} -h' says more"
        )
    values: dict[str, object] = {}
    for argument, word in zip(spec.arguments, words, strict=False):
        if not word:
            raise UsageError(f"{spec.name} has an empty {argument.placeholder}: write a name")
        values[argument.field] = argument.convert(word)
    return values


def _overview(ssh: str) -> Iterator[str]:
    yield f"usage: {ssh} COMMAND [FLAGS] [TOPIC]"
    yield ""
    yield "commands:"
    for spec in COMMANDS:
        yield from _row(spec.usage, spec.summary)
    yield ""
    yield "examples:"
    yield f"  echo hello | {ssh} pub greetings"
    yield f"  {ssh} sub greetings"
    yield f"  tar c folder | {ssh} pub -t 10m backup"
    yield ""
    yield f"'{ssh} help COMMAND' shows a command's flags."


def _details(spec: Command, ssh: str) -> Iterator[str]:
    usage = spec.usage.replace(spec.name, f"{spec.name} [FLAGS]", 1)
    yield f"usage: {ssh} {usage}"
    yield ""
    yield f"{spec.summary[0].upper()}{spec.summary[1:]}."
    yield from textwrap.wrap(spec.detail, HELP_WIDTH)
    yield ""
    yield "flags:"
    defaults = {field.name: field.default for field in dataclasses.fields(spec.request)}
    for flag in spec.all_flags:
        yield from _row(flag.usage, flag.text + _default_text(defaults.get(flag.field)))


def _default_text(default: object) -> str:
    match default:
        case enum.Enum():
            return f" (default {default.value})"
        case float():
            return f" (default {format_duration(default)})"
        case int() if default is not False:
            return f" (default {str(default).lower()})"
        case _:
            return ""


def _row(left: str, right: str) -> Iterator[str]:
    """Lay out one entry in two columns; the left one must be narrower than `_HELP_INDENT`."""
    start = f"  {left}"
    for line in textwrap.wrap(right, HELP_WIDTH - _HELP_INDENT):
        yield f"{start:{_HELP_INDENT}}{line}"
        start = ""
