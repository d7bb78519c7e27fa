"""Errands as bytes, and back: only what is validated comes in, and only types that are listed."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from pipe.elsewhere import Errand, Facts, Gone, Size
from pipe.errors import PipeError, UsageError
from pipe.language.requests import COMMANDS, Request
from pipe.limits.quotas import Holder  # noqa: TC001 - pydantic looks at it
from pipe.mesh.frames import OUTCOMES, BadFrame
from pipe.rights.callers import Caller
from pipe.rights.scopes import Reach, Right, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUESTS = {command.request.__name__: command.request for command in COMMANDS}


@dataclasses.dataclass(frozen=True, slots=True)
class _ScopeData:
    """A scope in words; `Reach.parse` reads them back."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    rights: tuple[Right, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _CallerData:
    """A caller without the number of its login, which counts for one process."""

    user: str
    fingerprint: str
    admin: bool
    lent: bool
    scope: _ScopeData | None
    until: float | None
    backing: str
    token: str
    token_name: str


@dataclasses.dataclass(frozen=True, slots=True)
class _ErrandData:
    """An errand, with its request by name."""

    command: str
    request: dict[str, Any]
    caller: _CallerData
    address: str
    holders: tuple[Holder, ...]
    hints: tuple[str, ...]
    screen: Size | None
    line_end: str
    client: dict[str, str]
    part: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _GoneData:
    """How a client went, with the outcome by its label."""

    outcome: str
    error: str
    confirmed: bool
    lost: bool
    complete: bool


_ERRAND = TypeAdapter(_ErrandData)
_GONE = TypeAdapter(_GoneData)
_SIZE = TypeAdapter(Size)
_FACTS = TypeAdapter(Facts)


@functools.cache
def _fields_of(command: str) -> TypeAdapter[Any]:
    return TypeAdapter(_REQUESTS[command])


def write_errand(errand: Errand) -> bytes:
    """Write an errand.

    Raises:
        UsageError: the request has text that is not Unicode.
    """
    command = type(errand.request).__name__
    try:
        data = _ErrandData(
            command,
            _fields_of(command).dump_python(errand.request, mode="json"),
            _write_caller(errand.caller),
            errand.address,
            errand.holders,
            errand.hints,
            errand.screen,
            errand.line_end,
            dict(errand.client),
            errand.part,
        )
        return _ERRAND.dump_json(data)
    except ValueError:
        raise UsageError("the command has text that is not UTF-8") from None


def read_errand(body: memoryview) -> Errand:
    """Read an errand.

    Raises:
        BadFrame: it is none.
    """
    try:
        data = _ERRAND.validate_json(bytes(body))
        if data.command not in _REQUESTS:
            raise BadFrame(f"an unknown command: {data.command}")
        request: Request = _fields_of(data.command).validate_json(json.dumps(data.request))
        caller = _read_caller(data.caller)
    except (ValidationError, PipeError) as error:
        raise BadFrame(f"an errand that cannot be read: {error}") from None
    return Errand(
        request,
        caller,
        data.address,
        data.holders,
        data.hints,
        data.screen,
        data.line_end,
        data.client,
        data.part,
    )


def _write_caller(caller: Caller) -> _CallerData:
    scope = caller.scope
    reach = None
    if scope is not None:
        reach = _ScopeData(tuple(scope.reads.shown), tuple(scope.writes.shown), tuple(scope.rights))
    return _CallerData(
        caller.user,
        caller.fingerprint,
        caller.admin,
        caller.lent,
        reach,
        caller.until,
        caller.backing,
        caller.token,
        caller.token_name,
    )


def _read_caller(data: _CallerData) -> Caller:
    scope = None
    if data.scope is not None:
        reads = Reach.parse(data.scope.reads, owner=data.user)
        writes = Reach.parse(data.scope.writes, owner=data.user)
        scope = Scope(reads, writes, frozenset(data.scope.rights))
    return Caller(
        user=data.user,
        fingerprint=data.fingerprint,
        admin=data.admin,
        lent=data.lent,
        scope=scope,
        until=data.until,
        backing=data.backing,
        token=data.token,
        token_name=data.token_name,
    )


def write_gone(gone: Gone) -> bytes:
    """Write how a client went."""
    fields: Mapping[str, Any] = gone._asdict()
    return _GONE.dump_json(_GoneData(**{**fields, "outcome": gone.outcome.label}))


def read_gone(body: memoryview) -> Gone:
    """Read it.

    Raises:
        BadFrame: it is none.
    """
    try:
        data = _GONE.validate_json(bytes(body))
        outcome = OUTCOMES[data.outcome]
    except (ValidationError, KeyError):
        raise BadFrame("a departure that cannot be read") from None
    return Gone(outcome, data.error, data.confirmed, data.lost, data.complete)


def write_size(size: Size) -> bytes:
    """Write a terminal's size."""
    return _SIZE.dump_json(size)


def read_size(body: memoryview) -> Size:
    """Read it.

    Raises:
        BadFrame: it is none.
    """
    try:
        return _SIZE.validate_json(bytes(body))
    except ValidationError:
        raise BadFrame("a size that cannot be read") from None


def write_facts(facts: Facts) -> bytes:
    """Write what programs are told."""
    return _FACTS.dump_json(facts)


def read_facts(body: memoryview) -> Facts:
    """Read it.

    Raises:
        BadFrame: it is none.
    """
    try:
        return _FACTS.validate_json(bytes(body))
    except ValidationError:
        raise BadFrame("facts that cannot be read") from None
