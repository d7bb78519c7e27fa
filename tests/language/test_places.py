"""Places and nodes of a mesh: how they are written."""

from __future__ import annotations

import pytest

from pipe.errors import BadName
from pipe.language.places import Place, parse_node


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("n1.example:2223", ("n1.example", 2223)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_places(text: str, place: tuple[str, int]) -> None:
    """A place is a host and a port, and is written as it is read."""
    assert Place.parse(text) == place
    assert str(Place.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n1",
        ":1",
        "n1:",
        "n1:0",
        "n1:65536",
        "n1:x",
        "::1:1",
        "[n1]:1",
        "a b:1",
        "tls/n1:1",
        "ä:1",
    ],
)
def test_what_is_no_place(text: str) -> None:
    """Anything else is refused with the rule."""
    with pytest.raises(BadName, match="use a host and a port"):
        Place.parse(text)


@pytest.mark.parametrize("name", ["n1", "a", "web-1", "0", "a" * 63])
def test_nodes(name: str) -> None:
    """A node's name is a label of a host name."""
    assert parse_node(name) == name


@pytest.mark.parametrize("name", ["", "N1", "-a", "a-", "a.b", "a/b", "*", "a" * 64, "n\n"])
def test_what_is_no_node(name: str) -> None:
    """Anything else is refused with the rule."""
    with pytest.raises(BadName, match="use 1 to 63 of a-z 0-9 -"):
        parse_node(name)
