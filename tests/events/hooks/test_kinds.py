"""What deliveries say: payloads of each kind, and whatever else may come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.events.envelope import Event
from pipe.events.hooks.kinds import (
    MAX_EVENTS,
    MAX_VALUES,
    Unreadable,
    delivery_id,
    events_of,
    place,
)
from pipe.language.hook_requests import HookKind
from pipe.language.names import TopicName

if TYPE_CHECKING:
    from collections.abc import Iterable

PAYLOADS = Path(__file__).parent / "payloads"
NOW = 1_795_929_360.0
IMAGES = [kind for kind in HookKind if kind.tells_of_images]
DIGEST = f"sha256:{'4' * 64}"
ALPINE = "sha256:41ed7fb7ac1da05be0e1ce7f8dc17a5d122d1c3514e1382496918b1e7c10033f"
BODY = "the body's own"
"""The ID of a delivery that has none."""

HEADERS = {
    "X-GitHub-Delivery": "github-1",
    "X-GitHub-Event": "package",
    "X-Gitea-Delivery": "gitea-1",
    "X-Gitea-Event": "package",
}


def payload(name: str) -> bytes:
    """A body as it comes."""
    return (PAYLOADS / f"{name}.json").read_bytes()


def read(kind: HookKind, body: bytes) -> list[Event]:
    """Read it."""
    return events_of(kind, HEADERS, body, BODY, NOW)


def push(kind: str, tag: str = "v1.2", digest: str = "", by: str = "", number: str = BODY) -> Event:
    """A push of the payloads' image."""
    return Event(NOW, "acme/web", tag, digest, by, kind, number)


@pytest.mark.parametrize(
    ("kind", "name", "events"),
    [
        (
            "distribution",
            "distribution",
            [
                Event(
                    NOW,
                    "alice/alpine",
                    "latest",
                    ALPINE,
                    "",
                    "distribution",
                    "45e43b71-ef28-4c13-8365-2c319e00dd47",
                )
            ],
        ),
        ("distribution", "distribution-pull", []),
        ("distribution", "distribution-delete", []),
        ("github", "github", [push("github", digest=DIGEST, by="alice", number="github-1")]),
        (
            "github",
            "github-registry-package",
            [push("github", digest=DIGEST, by="alice", number="github-1")],
        ),
        ("github", "github-untagged", []),
        ("forgejo", "forgejo", [push("forgejo", by="alice", number="gitea-1")]),
        ("harbor", "harbor", [push("harbor", digest=DIGEST, by="alice")]),
        ("harbor", "harbor-cloudevents", [push("harbor", digest=DIGEST, by="alice")]),
        ("dockerhub", "dockerhub", [push("dockerhub", by="alice")]),
        ("quay", "quay", [push("quay"), push("quay", "latest")]),
        ("quay", "quay-object", [push("quay")]),
    ],
)
def test_payloads(kind: str, name: str, events: list[Event]) -> None:
    """What each service sends at a push of a tagged image is that event, and all else is none."""
    assert read(HookKind(kind), payload(name)) == events


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("github", "github", {"action": "deleted"}),
        ("github", "github", {"package": {"package_type": "npm"}}),
        ("forgejo", "forgejo", {"action": "deleted"}),
        ("forgejo", "forgejo", {"package": {"type": "npm"}}),
        ("forgejo", "forgejo", {"package": {"version": DIGEST}}),
        ("harbor", "harbor", {"type": "PULL_ARTIFACT"}),
        ("dockerhub", "dockerhub", {"push_data": {"tag": ""}}),
    ],
)
def test_other_events_are_none(kind: str, name: str, change: dict[str, Any]) -> None:
    """Deletions, pulls, other packages and what has no tag are passed over."""
    document = json.loads(payload(name))
    for key, value in change.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    assert read(HookKind(kind), json.dumps(document).encode()) == []


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        '{"a":"ä"}'.encode("utf-16"),
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"[" + b",".join([b"{}"] * MAX_VALUES) + b",{}]",
        b"9" * 1_000_000,
    ],
    ids=lambda body: repr(body[:8]),
)
def test_what_cannot_be_read(kind: HookKind, body: bytes) -> None:
    """What is no JSON, is nested without end or has values without end is said to be so."""
    with pytest.raises(Unreadable) as caught:
        read(kind, body)
    assert len(str(caught.value)) < 80


def paths(value: object, so_far: tuple[str | int, ...] = ()) -> Iterable[tuple[str | int, ...]]:
    """All places in a document."""
    yield so_far
    items: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from paths(inner, (*so_far, key))


def put(value: Any, path: tuple[str | int, ...], new: object) -> Any:  # noqa: ANN401 - JSON
    """A document with something else in one place."""
    if not path:
        return new
    first, *rest = path
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[first] = put(value[first], tuple(rest), new)
    return copy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(path.stem for path in PAYLOADS.iterdir())), st.data())
def test_anything_may_stand_anywhere(name: str, data: st.DataObject) -> None:
    """Whatever stands in a field, it makes no event that is more than its kind allows."""
    kind = HookKind(name.partition("-")[0])
    if not kind.tells_of_images:
        return
    document = json.loads(payload(name))
    path = data.draw(st.sampled_from(list(paths(document))))
    body = json.dumps(put(document, path, data.draw(JSON))).encode()
    try:
        events = read(kind, body)
    except Unreadable:  # a list where JSON may be nested once more
        return
    for event in events:
        assert event.tag
        assert len(event.line()) < 10_000
        place(event, "alice", "")


def test_events_of_one_delivery_are_bounded() -> None:
    """Of a thousand tags a hundred are told."""
    body = json.dumps({"repository": "a/b", "updated_tags": [f"v{n}" for n in range(1000)]})
    assert len(read(HookKind.QUAY, body.encode())) == MAX_EVENTS


def test_long_texts_are_cut() -> None:
    """What only is told along with an event does not get longer than a line."""
    document = json.loads(payload("harbor"))
    document["operator"] = "x" * 100_000
    [event] = read(HookKind.HARBOR, json.dumps(document).encode())
    assert len(event.by) == 200
    document["event_data"]["repository"]["repo_full_name"] = "x" * 256
    assert read(HookKind.HARBOR, json.dumps(document).encode()) == []


@pytest.mark.parametrize(
    ("repository", "owner", "path", "topic"),
    [
        ("alice/alpine", "alice", "", "alice/alpine:latest"),
        ("alpine", "alice", "", "alice/alpine:latest"),
        ("library/alpine", "alice", "", "alice/library/alpine:latest"),
        ("bob/alpine", "alice", "", "alice/bob/alpine:latest"),
        ("alice/alpine", "alice", "ci/", "alice/ci/alpine:latest"),
        ("alice2/alpine", "alice", "", "alice/alice2/alpine:latest"),
        ("alice", "alice", "", "alice/alice:latest"),
        ("acme/web", "public", "", "public/acme/web:latest"),
    ],
)
def test_places(repository: str, owner: str, path: str, topic: str) -> None:
    """In a space an image has the topic NAME:TAG; the owner's name is not in it twice."""
    found = place(Event(NOW, repository, "latest"), owner, path)
    assert found
    assert str(found[0]) == topic
    assert f"{found[1].repository}:{found[1].tag}" == topic


@given(st.text(), st.text())
def test_no_name_leads_out_of_a_space(repository: str, tag: str) -> None:
    """Whatever a sender calls an image, its topic is in the hook's space."""
    found = place(Event(NOW, repository, tag), "alice", "ci/")
    if found:
        assert found[0].owner == "alice"
        assert found[0].path[0] == "ci"


@pytest.mark.parametrize(
    "repository", ["../x", "a/../b", "a//b", "", "alice/", "A B", "a/" * 9 + "a"]
)
def test_names_of_no_topic(repository: str) -> None:
    """What no topic can be called has no place."""
    assert place(Event(NOW, repository, "latest"), "alice", "") is None


@pytest.mark.parametrize(
    ("kind", "headers", "number"),
    [
        ("standard", {"webhook-id": "msg_1"}, "msg_1"),
        ("generic", {"Idempotency-Key": "k"}, "k"),
        ("generic", {}, ""),
        ("gitlab", {"Idempotency-Key": "k", "X-Gitlab-Event-UUID": "u"}, "k"),
        ("gitlab", {"X-Gitlab-Event-UUID": "u"}, BODY),
        ("github", {"X-GitHub-Delivery": "d"}, BODY),
        ("harbor", {}, BODY),
    ],
)
def test_ids(kind: str, headers: dict[str, str], number: str) -> None:
    """A delivery is known by what its sender cannot help to repeat."""
    assert delivery_id(HookKind(kind), headers, BODY) == number


def test_space_is_one_of_topics() -> None:
    """The topic of a recorded push is the one that its user reads."""
    [event] = read(HookKind.DISTRIBUTION, payload("distribution"))
    found = place(event, "alice", "")
    assert found
    assert found[0] == TopicName("alice", ("alpine:latest",)) == event.topic
