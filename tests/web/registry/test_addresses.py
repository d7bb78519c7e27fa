"""What an address of the registry's protocol means, and what becomes of it."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import BadName
from pipe.web.registry.addresses import (
    Address,
    Kind,
    Names,
    is_digest,
    map_mount,
    parse_path,
    repository_of,
)

DIGEST = "sha256:" + "0a" * 32
BASE = "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/v2/alpine/manifests/latest", Address("alpine", Kind.MANIFEST, "latest")),
        (f"/v2/bob/a/b/manifests/{DIGEST}", Address("bob/a/b", Kind.MANIFEST, DIGEST)),
        (f"/v2/alpine/blobs/{DIGEST}", Address("alpine", Kind.BLOB, DIGEST)),
        ("/v2/alpine/blobs/uploads/", Address("alpine", Kind.UPLOAD, "")),
        ("/v2/alpine/blobs/uploads/a-b_c.=", Address("alpine", Kind.UPLOAD, "a-b_c.=")),
        ("/v2/alpine/tags/list", Address("alpine", Kind.TAGS, "list")),
        (f"/v2/alpine/referrers/{DIGEST}", Address("alpine", Kind.REFERRERS, DIGEST)),
        ("/v2/manifests/tags/list", Address("manifests", Kind.TAGS, "list")),
        ("/v2/a/manifests/manifests/x", Address("a/manifests", Kind.MANIFEST, "x")),
    ],
)
def test_an_address(path: str, address: Address) -> None:
    """Each address of the specification is known, and written again as it was."""
    assert parse_path(path) == address
    assert address.path(address.name) == path


@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        "/v2/_catalog",
        "/v1/alpine/manifests/latest",
        "/v2/manifests/latest",
        "/v2/Alpine/manifests/latest",
        "/v2/a/../bob/secret/manifests/latest",
        "/v2/alpine/../../manifests/latest",
        "/v2/alpine//manifests/latest",
        "/v2/alpine/manifests/../x",
        "/v2/alpine/manifests/..",
        "/v2/alpine/manifests/a b",
        "/v2/alpine/manifests/",
        f"/v2/alpine/manifests/{'x' * 129}",
        "/v2/alpine/blobs/latest",
        "/v2/alpine/blobs/uploads/..",
        "/v2/alpine/blobs/uploads/.",
        "/v2/alpine/blobs/uploads/%2e%2e",
        "/v2/alpine/blobs/uploads/a?b",
        "/v2/alpine/tags/all",
        "/v2/alpine/tags/list/",
        "/v2/alpine/manifests/latest\n",
        "/v2/alpine\n/manifests/latest",
    ],
)
def test_no_address(path: str) -> None:
    """Nothing else is one, whatever a registry might take it for."""
    assert parse_path(path) is None


@given(st.text("a/.-_:%\n?~A0", max_size=30))
def test_what_is_known_is_harmless(text: str) -> None:
    """Whatever a path is, what goes on has no dots to climb by, and nothing that is encoded."""
    found = parse_path(f"/v2/{text}")
    if found:
        path = found.path(f"alice/{found.name}")
        assert path.isprintable()
        assert not set(path) & set("%?# \\")
        assert not {".", ".."} & set(path.split("/"))


def test_a_tag() -> None:
    """A manifest is called by a tag or by its digest, and only the first is a push of an image."""
    assert Address("a", Kind.MANIFEST, "latest").tag == "latest"
    assert Address("a", Kind.MANIFEST, DIGEST).tag == ""
    assert Address("a", Kind.TAGS, "list").tag == ""


def test_whose_repository() -> None:
    """A name without an owner is in the own space, as with topics."""
    assert str(repository_of("alpine", "alice")) == "alice/alpine"
    assert str(repository_of("bob/app", "alice")) == "bob/app"
    for name, user in (("a/" * 9 + "b", "alice"), ("alpine", "alice_"), ("root/x", "alice")):
        with pytest.raises(BadName):
            repository_of(name, user)


@pytest.mark.parametrize(
    ("location", "elsewhere", "mapped"),
    [
        (
            f"{BASE}/v2/alice/a/blobs/uploads/u?_state=x%3D",
            False,
            "/v2/a/blobs/uploads/u?_state=x%3D",
        ),
        ("/v2/alice/a/manifests/latest", False, "/v2/a/manifests/latest"),
        ("https://registry.internal/v2/alice/a/blobs/uploads/u", False, "/v2/a/blobs/uploads/u"),
        ("https://s3.example/v2/alice/a?X=1", True, "https://s3.example/v2/alice/a?X=1"),
        (f"{BASE}/v2/alice/a/blobs/x", True, "/v2/a/blobs/x"),
        (f"{BASE}/v2/alice/ab/blobs/x", False, "/v2/alice/ab/blobs/x"),
        (f"{BASE}/elsewhere", False, f"{BASE}/elsewhere"),
        ("../uploads/x", False, "../uploads/x"),
    ],
)
def test_locations(location: str, elsewhere: bool, mapped: str) -> None:
    """A client is sent to where it can go; only a redirection may lead to another server."""
    names = Names(BASE, "a", "alice/a")
    assert names.map_location(location, elsewhere=elsewhere) == mapped


def test_locations_below_a_path() -> None:
    """A registry behind a gateway has a path that no client sees."""
    names = Names("https://gateway/registry", "alice/a", "alice/a")
    location = "https://gateway/registry/v2/alice/a/blobs/uploads/u"
    assert names.map_location(location, elsewhere=False) == "/v2/alice/a/blobs/uploads/u"


def test_links() -> None:
    """The next page of a list has the client's name of it."""
    link = '</v2/alice/a/tags/list?last=v1&n=2>; rel="next"'
    assert Names(BASE, "a", "alice/a").map_link(link) == '</v2/a/tags/list?last=v1&n=2>; rel="next"'


def mounted(query: str) -> dict[str, list[str]]:
    """What is asked of the registry by one who may take from all that begin with ``o``."""
    return parse_qs(map_mount(query, lambda name: f"alice/{name}" if name[0] == "o" else None))


def test_mounts() -> None:
    """A blob is taken from where the caller may read, by its full name, and from nowhere else."""
    assert mounted(f"mount={DIGEST}&from=own") == {"mount": [DIGEST], "from": ["alice/own"]}
    assert mounted(f"mount={DIGEST}&from=secret&x=1") == {"x": ["1"]}
    assert mounted(f"mount={DIGEST}") == {}
    assert mounted("from=own&digest=d") == {"digest": ["d"]}
    assert mounted(f"mount={DIGEST}&from=own&from=secret") == {}
    assert mounted(f"from=secret&mount={DIGEST}&from=own")["from"] == ["alice/own"]


def test_digests() -> None:
    """An event tells only of what is one."""
    assert is_digest(DIGEST)
    assert not is_digest("latest")
    assert not is_digest(f"{DIGEST}\n")
