"""Query parameters: every flag of the command over SSH, under its long or its short name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes

from pipe.errors import UsageError
from pipe.language.chat_requests import Chat
from pipe.language.flags import boolean, did_you_mean
from pipe.language.names import quoted
from pipe.language.requests import COMMANDS, Pipe, Publish, Subscribe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiohttp import web

    from pipe.language.flags import Flag

R = TypeVar("R", bound=Publish | Subscribe | Pipe | Chat)

Readers: TypeAlias = "Mapping[str, Callable[[str], object]]"

ALIASES = {"n": "min-subs", "persist": "keep-alive", "slow": "on-slow"}
"""Parameters that are called otherwise than their flag."""


ONLY_OVER_SSH = frozenset({"progress", "size", "plain"})
"""Fields that no parameter sets: two are about the lines on stderr, one about a terminal."""


def read_options(
    request: web.Request,
    kind: type[R],
    topic: str,
    extras: Readers | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[R, dict[str, Any]]:
    """Read the query of a request for a topic.

    Args:
        request: whose query.
        kind: what it asks for.
        topic: the topic's name, as the path has it.
        extras: other parameters, and their readers.
        defaults: fields that are so unless the query says otherwise.

    Returns:
        What it asks for, and the values of the others that are there.

    Raises:
        UsageError: one is not known, or has a value that is not allowed.
    """
    fields, others = read_flags(request, kind, extras or {})
    return kind(**{"topic": topic, **(defaults or {}), **fields}), others


def read_flags(
    request: web.Request, kind: type[Any], readers: Readers
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the query of a request as the flags of a command.

    Args:
        request: whose query.
        kind: the command.
        readers: other parameters.

    Returns:
        The fields of the command that are there, and the values of the others.

    Raises:
        UsageError: one is not known, or has a value that is not allowed.
    """
    flags: dict[str, Flag] = _flags_of(kind)
    fields: dict[str, Any] = {}
    others: dict[str, Any] = {}
    # aiohttp keeps an empty query for as long as the request, too.
    for name, text in request.query.items() if "?" in request.raw_path else ():
        flag = flags.get(name) or flags.get(ALIASES.get(name, name))
        if name in readers:
            others[name] = _convert(name, text, readers[name])
        elif flag:
            word = text or "true" if flag.is_boolean else text
            fields[flag.field] = _convert(name, word, flag.convert)
        else:
            raise UsageError(_unknown(name, (*readers, *flags, *ALIASES)))
    return fields, others


def topic_in(request: web.Request) -> str:
    """The topic's name in a path: all that follows the route's own part, decoded once.

    What is no UTF-8 becomes what is in no name either.

    Raises:
        UsageError: there is none.
    """
    resource = request.match_info.route.resource
    skipped = resource.canonical.partition("{")[0] if resource else ""
    path = request.raw_path.partition("?")[0]
    name = unquote_to_bytes(path[len(skipped) :]).decode("utf-8", "surrogateescape")
    if not name:
        raise UsageError("the topic name is empty: it follows the last slash of the address")
    return name


def switch(text: str) -> bool:
    """Read a parameter that may stand by itself."""
    return boolean(text or "true")


def choice(*words: str) -> Callable[[str], str]:
    """Make a reader of one of some words."""

    def convert(text: str) -> str:
        if text in words:
            return text
        raise UsageError(f"it takes {' or '.join(words)}")

    return convert


def _flags_of(kind: type[Any]) -> dict[str, Flag]:
    spec = next(command for command in COMMANDS if command.request is kind)
    return {
        spelling.lstrip("-"): flag
        for flag in spec.flags
        if flag.field not in ONLY_OVER_SSH
        for spelling in flag.spellings.split()
    }


def _convert(name: str, text: str, reader: Callable[[str], object]) -> object:
    try:
        return reader(text)
    except UsageError as error:
        raise UsageError(f"?{name} has the value {quoted(text)}: {error.message}") from None


def _unknown(name: str, known: Iterable[str]) -> str:
    names = sorted({one for one in known if len(one) > 1})
    return (
        f"unknown parameter {quoted(name)}{did_you_mean(name, names)} there are {', '.join(names)}"
    )
