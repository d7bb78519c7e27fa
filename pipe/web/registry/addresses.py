"""Addresses of the registry's protocol, and how they change on the way through.

    what a client asks for       what the registry is asked for
    /v2/alpine/tags/list         /v2/alice/alpine/tags/list          alice asks
    /v2/bob/app/manifests/v1     /v2/bob/app/manifests/v1

A name means what it means as a topic's.  Only the addresses of the OCI distribution specification
are known, and each part is checked: nothing else reaches the registry, and no part of an address
can be read otherwise there.  Pure functions.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from pipe.errors import BadName
from pipe.language.names import TopicName, parse_topic, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = "/v2/"

_PART = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = re.compile(f"{_PART}(?:/{_PART})*")
_TAG = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile("[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]{1,256}")
_UPLOAD = re.compile("(?![.]{1,2}$)[A-Za-z0-9._~=-]*")
_TARGET = re.compile("<([^<>]*)>")


class Kind(enum.Enum):
    """What an address names; the value is how its path goes on after the name."""

    MANIFEST = "manifests"
    BLOB = "blobs"
    UPLOAD = "blobs/uploads"
    TAGS = "tags"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class Address:
    """A part of a repository.

    Args:
        name: the repository's, as the client wrote it.
        kind: which part.
        reference: a tag or digest, the name of an upload, or ``list``.
    """

    name: str
    kind: Kind
    reference: str

    @property
    def tag(self) -> str:
        """The tag that a manifest is called by; empty if it is none, or called by its digest."""
        return self.reference if self.kind is Kind.MANIFEST and ":" not in self.reference else ""

    def path(self, name: str) -> str:
        """The address, with this name for the repository."""
        return f"{ROOT}{name}/{self.kind.value}/{self.reference}"


_REFERENCES: dict[Kind, tuple[re.Pattern[str], ...]] = {
    Kind.MANIFEST: (_TAG, _DIGEST),
    Kind.BLOB: (_DIGEST,),
    Kind.UPLOAD: (_UPLOAD,),  # empty: a new one
    Kind.TAGS: (re.compile("list"),),
    Kind.REFERRERS: (_DIGEST,),
}


def parse_path(path: str) -> Address | None:
    """Read the path of a request; None if the protocol has no such address."""
    if not path.startswith(ROOT):
        return None
    before, _, reference = path.removeprefix(ROOT).rpartition("/")
    for kind in (Kind.UPLOAD, Kind.MANIFEST, Kind.BLOB, Kind.TAGS, Kind.REFERRERS):
        name = before.removesuffix(f"/{kind.value}")
        if name != before:
            known = any(pattern.fullmatch(reference) for pattern in _REFERENCES[kind])
            if known and _NAME.fullmatch(name):
                return Address(name, kind, reference)
            return None
    return None


def is_digest(text: str) -> bool:
    """Whether this is a digest."""
    return _DIGEST.fullmatch(text) is not None


def repository_of(name: str, user: str) -> TopicName:
    """Find whose repository a name means, as with topics.

    Raises:
        BadName: none can have that name.
    """
    found = parse_topic(name, caller=user)
    if not _NAME.fullmatch(str(found)):
        raise BadName(
            f"no image can be called {quoted(str(found))}: use a-z and 0-9, with single . _ or -"
            " between them"
        )
    return found


def map_mount(query: str, may_take: Callable[[str], str | None]) -> str:
    """Change the query that begins an upload, which may ask for a blob of another repository.

    Args:
        query: as it came.
        may_take: returns the full name of a repository that may be taken from; None for others.

    Returns:
        The new query.  Without the right to it nothing is asked of the other repository: then the
        registry begins an upload, as the protocol has it.  The same without ``from``, as some
        registries would look everywhere.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    wanted = dict(pairs)
    kept = [(name, value) for name, value in pairs if name not in {"mount", "from"}]
    if "mount" in wanted and "from" in wanted:
        source = may_take(wanted["from"])
        if source is not None:
            kept += [("mount", wanted["mount"]), ("from", source)]
    return urlencode(kept, safe=":/")


class Names:
    """Maps addresses in the registry's answers back to what one client sees.

    Args:
        base: the registry's address.
        name: a repository, as the client wrote it.
        full_name: the same, as the registry knows it.
    """

    def __init__(self, base: str, name: str, full_name: str) -> None:
        self._base = urlsplit(base)
        self._name = name
        self._full_name = full_name

    def map_location(self, location: str, *, elsewhere: bool) -> str:
        """Map the value of ``Location``, to an address without a host: the client knows ours.

        Args:
            location: as the registry wrote it.
            elsewhere: whether it may lead to another server: a redirection, to where blobs are.
        """
        parts = urlsplit(location)
        own = not parts.netloc or parts.netloc == self._base.netloc
        path = parts.path.removeprefix(self._base.path)
        if not path.startswith(ROOT) or (elsewhere and not own):
            return location
        prefix = f"{ROOT}{self._full_name}/"
        if path.startswith(prefix):
            path = f"{ROOT}{self._name}/{path.removeprefix(prefix)}"
        return f"{path}?{parts.query}" if parts.query else path

    def map_link(self, link: str) -> str:
        """Map the value of ``Link``, which names the next page of a list."""
        return _TARGET.sub(lambda found: f"<{self.map_location(found[1], elsewhere=False)}>", link)
