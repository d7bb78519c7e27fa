"""What deliveries of each kind say: their bodies read into events.

Fields that are missing or have another form than expected make no event; nothing here raises but
`Unreadable`.  What is taken from a body is bounded, and so is the work of reading one: a body may
have `MAX_VALUES` values, which takes milliseconds, and `MAX_EVENTS` events.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from pipe.errors import BadName
from pipe.events.envelope import Event
from pipe.language.hook_requests import HookKind
from pipe.language.names import TopicName, parse_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_VALUES = 10_000
"""Values in a body: the longest that we have seen, an image's with all its labels, has hundreds."""

MAX_EVENTS = 100
"""Events in a body; what is more is left out.  Registries send one or a few."""

MAX_NAME, MAX_TAG, MAX_TEXT = 255, 128, 200
"""Characters of a repository's name, of a tag (as registries have it), and of all other texts."""

_PUBLISHED = frozenset({"published", "updated"})


class Unreadable(ValueError):
    """A body that is not what its kind sends; says so in a few words."""


def delivery_id(kind: HookKind, headers: Mapping[str, str], fingerprint: str) -> str:
    """What tells this delivery from others of its hook; empty: nothing does.

    An ID that is neither signed nor the sender's secret could be changed by whoever sends a body
    once more, so there it is the body itself.  So it is for GitLab before 17.4, where events that
    follow from each other have one ID.

    Args:
        kind: the hook's.
        headers: of the request.
        fingerprint: of the body, as `pipe.events.hooks.verify.Proof` tells it.
    """
    match kind:
        case HookKind.STANDARD:
            return headers.get("webhook-id", "")[:MAX_TEXT]
        case HookKind.GENERIC:
            return headers.get("Idempotency-Key", "")[:MAX_TEXT]
        case HookKind.GITLAB:
            return headers.get("Idempotency-Key", "")[:MAX_TEXT] or fingerprint
        case _:
            return fingerprint


def events_of(
    kind: HookKind, headers: Mapping[str, str], body: bytes, number: str, now: float
) -> list[Event]:
    """Read a body of a kind that tells of images.

    Args:
        kind: the hook's.
        headers: of the request.
        body: as it came.
        number: the delivery's ID, for events without one of their own.
        now: seconds since 1970.

    Returns:
        The pushes of tagged images, with the repository as the sender calls it.

    Raises:
        Unreadable: it is not JSON, or of no reasonable size.
    """
    document = _parse(body)
    found: list[Event] = []
    for event in _READERS[kind](headers, document):
        if event.repository and event.tag:
            found.append(replace(event, time=now, source=kind.value, id=event.id or number))
        if len(found) == MAX_EVENTS:
            break
    return found


def place(event: Event, owner: str, path: str) -> tuple[TopicName, Event] | None:
    """Find the topic of an event in a space.

    Args:
        event: with the repository as the sender calls it.
        owner: whose space it is; a repository that begins with this name loses that part.
        path: empty, or where in that space, with a ``/`` at the end.

    Returns:
        The topic, and the event with the repository as it is called here; None if no topic can
        have this name.
    """
    repository = event.repository.removeprefix(f"{owner}/")
    if not repository or repository.endswith("/"):  # the tag alone would be a name
        return None
    here = replace(event, repository=f"{owner}/{path}{repository}")
    try:
        return parse_topic(f"{here.repository}:{here.tag}", caller=owner), here
    except BadName:
        return None


def _parse(body: bytes) -> object:
    if body.count(b",") >= MAX_VALUES:
        raise Unreadable(f"it has more than {MAX_VALUES} values")
    try:
        return json.loads(body.decode())
    except RecursionError:
        raise Unreadable("it is nested too deep") from None
    except ValueError:
        raise Unreadable("it is no JSON") from None


def _distribution(_: Mapping[str, str], document: object) -> Iterator[Event]:
    for one in _items(_get(document, "events")):
        if _get(one, "action") == "push":
            target = _get(one, "target")
            yield Event(
                0.0,
                _name(_get(target, "repository")),
                _tag(_get(target, "tag")),
                _text(_get(target, "digest")),
                _text(_get(one, "actor", "name")),
                id=_text(_get(one, "id")),
            )


def _github(headers: Mapping[str, str], document: object) -> Iterator[Event]:
    package = _get(document, "package") or _get(document, "registry_package")
    kind = _text(_get(package, "package_type")).lower()
    if _text(_get(document, "action")) not in _PUBLISHED or kind not in {"container", "docker"}:
        return
    owner = _text(_get(package, "namespace")) or _text(_get(package, "owner", "login"))
    tag = _get(package, "package_version", "container_metadata", "tag")
    yield Event(
        0.0,
        _name(f"{owner}/{_text(_get(package, 'name'))}".lower()),
        _tag(_get(tag, "name")),
        _text(_get(tag, "digest")),
        _text(_get(document, "sender", "login")),
        id=headers.get("X-GitHub-Delivery", "")[:MAX_TEXT],
    )


def _forgejo(headers: Mapping[str, str], document: object) -> Iterator[Event]:
    package = _get(document, "package")
    if _get(document, "action") != "created" or _get(package, "type") != "container":
        return
    owner = _text(_get(package, "owner", "login")) or _text(_get(package, "owner", "username"))
    number = headers.get("X-Forgejo-Delivery") or headers.get("X-Gitea-Delivery", "")
    yield Event(
        0.0,
        _name(f"{owner}/{_text(_get(package, 'name'))}".lower()),
        _tag(_get(package, "version")),
        by=_text(_get(document, "sender", "login")),
        id=number[:MAX_TEXT],
    )


def _harbor(_: Mapping[str, str], document: object) -> Iterator[Event]:
    """In its own format, or in that of CloudEvents."""
    data = _get(document, "event_data") or _get(document, "data")
    if _text(_get(document, "type")) not in {"PUSH_ARTIFACT", "harbor.artifact.pushed"}:
        return
    for one in _items(_get(data, "resources")):
        yield Event(
            0.0,
            _name(_get(data, "repository", "repo_full_name")),
            _tag(_get(one, "tag")),
            _text(_get(one, "digest")),
            _text(_get(document, "operator")),
        )


def _dockerhub(_: Mapping[str, str], document: object) -> Iterator[Event]:
    yield Event(
        0.0,
        _name(_get(document, "repository", "repo_name")),
        _tag(_get(document, "push_data", "tag")),
        by=_text(_get(document, "push_data", "pusher")),
    )


def _quay(_: Mapping[str, str], document: object) -> Iterator[Event]:
    """Its tags are a list, or were an object of tags and images."""
    tags = _get(document, "updated_tags")
    for one in tags if isinstance(tags, dict) else _items(tags):
        yield Event(0.0, _name(_get(document, "repository")), _tag(one))


_READERS: dict[HookKind, Callable[[Mapping[str, str], object], Iterator[Event]]] = {
    HookKind.DISTRIBUTION: _distribution,
    HookKind.GITHUB: _github,
    HookKind.FORGEJO: _forgejo,
    HookKind.HARBOR: _harbor,
    HookKind.DOCKERHUB: _dockerhub,
    HookKind.QUAY: _quay,
}


def _get(value: object, *names: str) -> object:
    """What is there in objects within objects; None if it is not."""
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _name(value: object) -> str:
    """A repository; empty if it is none, or longer than any."""
    return value if isinstance(value, str) and len(value) <= MAX_NAME else ""


def _tag(value: object) -> str:
    """A tag; a digest that stands in its place is none."""
    if not isinstance(value, str) or len(value) > MAX_TAG or value.startswith("sha256:"):
        return ""
    return value
