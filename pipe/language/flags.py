"""Commands and their flags: how they are described, read and shown in help.

One table of `Command` lists all commands and flags (`pipe.language.requests.COMMANDS`).  Parsing,
error messages and help all use it; help takes its defaults from the request classes.

We parse ourselves because users know Go's flags from pico's ``pipe``, where a boolean flag takes a
value only after ``=``: ``-b=false`` is false, ``-b false`` is true followed by a topic named
``false``.  Neither argparse nor click can do that: in both an optional value takes the next word,
and click reads ``-b=false`` as the value ``=false``.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipe.errors import UsageError
from pipe.language.durations import format_duration
from pipe.language.names import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

HELP_WIDTH = 80
"""Columns of help: the width of a terminal by default."""

_HELP_INDENT = 24
"""Columns before the text that explains a flag."""

_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
"""The words of Go's ``strconv.ParseBool``, in lower case."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: the request field that it sets, its spellings, how to read its value, its help.

    ``convert`` raises UsageError for a bad value.  Without a ``placeholder`` the flag is boolean.
    """

    field: str
    spellings: str
    convert: Callable[[str], object]
    text: str
    placeholder: str = ""

    @property
    def is_boolean(self) -> bool:
        """Whether the flag stands alone and takes a value only after ``=``."""
        return not self.placeholder

    @property
    def usage(self) -> str:
        """The flag as help shows it, with long spellings lined up."""
        *short, long = self.spellings.split()
        indent = f"{short[0]}, " if short else " " * 4
        return f"{indent}{long} {self.placeholder}".rstrip()


@dataclass(frozen=True, slots=True)
class Argument:
    """A word without a dash: the request field that it sets, its name in help, its check.

    With ``many`` it takes all remaining words and sets a tuple.
    """

    field: str
    placeholder: str
    required: bool = False
    convert: Callable[[str], object] = str
    many: bool = False

    @property
    def usage(self) -> str:
        """How help shows it: in brackets if optional, with dots if it takes several words."""
        text = f"{self.placeholder}..." if self.many else self.placeholder
        return text if self.required else f"[{text}]"


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name, the request that it makes, its help, arguments and flags.

    A name may have two words, as in ``keys add``.
    """

    name: str
    request: type[Any]
    summary: str
    detail: str = ""
    arguments: tuple[Argument, ...] = ()
    flags: tuple[Flag, ...] = ()

    @property
    def all_flags(self) -> tuple[Flag, ...]:
        """The command's own flags and the one that every command has."""
        return (*self.flags, HELP)

    @property
    def usage(self) -> str:
        """The command's name and arguments."""
        return " ".join((self.name, *(argument.usage for argument in self.arguments)))

    def find_flag(self, spelling: str, word: str) -> Flag:
        """Look up ``-x`` or ``--long``, found in ``word``, or raise UsageError."""
        for flag in self.all_flags:
            if spelling in flag.spellings.split():
                return flag
        long = "--" + word.lstrip("-").partition("=")[0]
        hint = did_you_mean(long, (flag.spellings.split()[-1] for flag in self.all_flags))
        raise UsageError(
            f"unknown flag {quoted(spelling)}{hint} 'ssh HOST {self.name} -h' lists the flags"
        )


def boolean(text: str) -> bool:
    """Read a boolean as Go's flags do."""
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise UsageError("a boolean is true, false, t, f, 1 or 0") from None


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Make a reader for whole numbers within bounds."""

    def convert(text: str) -> int:
        # int() alone would take "1_000", " 7" and digits of any script.
        if text.isascii() and text.isdigit() and lowest <= int(text) <= highest:
            return int(text)
        raise UsageError(f"it takes a whole number from {lowest} to {highest}")

    return convert


def one_of(choices: type[enum.Enum]) -> Callable[[str], enum.Enum]:
    """Make a reader for an enum's values."""

    def convert(text: str) -> enum.Enum:
        try:
            return choices(text)
        except ValueError:
            *names, last = (str(choice.value) for choice in choices)
            raise UsageError(f"it takes {', '.join(names)} or {last}") from None

    return convert


HELP = Flag("help", "-h --help", boolean, "print this help")


def read_words(spec: Command, words: Sequence[str]) -> dict[str, object] | None:
    """Read a command's words into its request's fields.

    Returns:
        The fields, or None if the words ask for help.

    Raises:
        UsageError: With one line that says what is wrong and what is allowed.
    """
    values: dict[str, object] = {}
    arguments: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            arguments.extend(rest)
        elif word.startswith("-") and word != "-":
            values.update(_read_flags(spec, word, rest))
        else:
            arguments.append(word)
        if values.get(HELP.field):
            return None
    values.pop(HELP.field, None)
    values.update(_read_arguments(spec, arguments))
    return values


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest a known word for an unknown one, to end an error message; empty if none is close.

    A known word that begins the unknown one counts as close too: ``sub`` for ``subscribe``.
    """
    word, known = word.lower(), list(known)
    matches = difflib.get_close_matches(word, known, n=1) or [
        one for one in known if word.startswith(one)
    ]
    return f"; did you mean '{matches[0]}'?" if matches else ";"


def _read_flags(spec: Command, word: str, rest: Iterator[str]) -> Iterator[tuple[str, object]]:
    """Read the flags in one word, taking a value from the following words if one needs it."""
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
    many = bool(spec.arguments) and spec.arguments[-1].many
    surplus = [] if many else words[len(spec.arguments) :]
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
        word = missing[0].placeholder
        article = "an" if word[0] in "AEIO" else "a"
        raise UsageError(f"{spec.name} needs {article} {word}; 'ssh HOST {spec.name} -h' says more")
    values: dict[str, object] = {}
    for position, (argument, word) in enumerate(zip(spec.arguments, words, strict=False)):
        group = words[position:] if argument.many else [word]
        if not all(group):
            raise UsageError(f"{spec.name} has an empty {argument.placeholder}: write a name")
        converted = tuple(dict.fromkeys(map(argument.convert, group)))
        values[argument.field] = converted if argument.many else converted[0]
    return values


def help_of(spec: Command, ssh: str, parts: Iterable[Command] = ()) -> Iterator[str]:
    """Write the help of one command, line by line.

    Args:
        spec: the command.
        ssh: how to call the server.
        parts: the two-word commands that begin with this one.
    """
    usage = spec.usage.replace(spec.name, f"{spec.name} [FLAGS]", 1)
    yield f"usage: {ssh} {usage}"
    yield ""
    yield f"{spec.summary[0].upper()}{spec.summary[1:]}."
    yield from textwrap.wrap(spec.detail, HELP_WIDTH)
    yield ""
    yield "flags:"
    defaults = {field.name: field.default for field in dataclasses.fields(spec.request)}
    for flag in spec.all_flags:
        yield from help_row(flag.usage, flag.text + _default_text(defaults.get(flag.field)))

    for number, part in enumerate(parts):
        if not number:
            yield ""
            yield "see also, each with -h:"
        yield from help_row(part.usage, part.summary)


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


def help_row(left: str, right: str) -> Iterator[str]:
    """Lay out one entry in two columns; a long left one has a line of its own."""
    start = f"  {left}"
    if len(start) >= _HELP_INDENT:
        yield start
        start = ""
    for line in textwrap.wrap(right, HELP_WIDTH - _HELP_INDENT):
        yield f"{start:{_HELP_INDENT}}{line}"
        start = ""
