"""The other way round: a request as its command line, or as flags by themselves."""

from __future__ import annotations

import dataclasses
import enum
import shlex
from typing import TYPE_CHECKING, Any

from pipe.language.durations import format_duration
from pipe.language.past import Last
from pipe.language.requests import COMMANDS, parse

if TYPE_CHECKING:
    from pipe.language.flags import Flag


def flags_of(request: object) -> dict[str, str]:
    """Write the flags of a request that are not as they are by default.

    Returns:
        Their texts by their long names, without dashes.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(_spec(request).request)}
    values = ((flag, getattr(request, flag.field)) for flag in _spec(request).flags)
    return {
        _long(flag).lstrip("-"): _text(value)
        for flag, value in values
        if value != defaults[flag.field]
    }


def command_of(request: object) -> str:
    """Write the command that `pipe.language.requests.parse` reads as this request."""
    spec = _spec(request)
    words = [*spec.name.split(), *(f"--{name}={text}" for name, text in flags_of(request).items())]
    for argument in spec.arguments:
        value = getattr(request, argument.field)
        if value is not None:
            words += ["--", *(map(str, value) if argument.many else (str(value),))]
    return shlex.join(words)


def checked(request: Any) -> Any:  # noqa: ANN401 - it returns what it was given
    """Check a request as if somebody had written it.

    Raises:
        UsageError: one of its values is not allowed; the message names the flag.
    """
    return parse(command_of(request))


def _spec(request: object) -> Any:  # noqa: ANN401 - a Command, whose request is of any type
    return next(spec for spec in COMMANDS if spec.request is type(request))


def _long(flag: Flag) -> str:
    return flag.spellings.split()[-1]


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case enum.Enum():
            return str(value.value)
        case float():
            return format_duration(value)
        case Last():
            return f"{value.amount}l" if value.lines else str(value.amount)
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)
