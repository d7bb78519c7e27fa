"""The requests and commands about hooks; `requests` includes them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pipe.errors import UsageError
from pipe.language.durations import SECONDS_PER_DAY, format_duration, parse_duration
from pipe.language.flags import Argument, Command, Flag, boolean, one_of
from pipe.language.token_requests import label

MAX_HOLD = 1.0 * SECONDS_PER_DAY
"""Seconds that an event waits for a reader at most: a deployment takes minutes."""


class HookKind(enum.Enum):
    """Whose webhooks a hook takes, and so how they are proved and read."""

    DISTRIBUTION = "distribution"
    """The registry of Docker and of the CNCF, which GitLab's own servers run too."""
    GITHUB = "github"
    FORGEJO = "forgejo"
    """Forgejo and Gitea."""
    GITLAB = "gitlab"
    HARBOR = "harbor"
    DOCKERHUB = "dockerhub"
    QUAY = "quay"
    STANDARD = "standard"
    """Whoever signs as https://www.standardwebhooks.com says."""
    GENERIC = "generic"

    @property
    def tells_of_images(self) -> bool:
        """Whether it is read for pushed images; of the others the body is passed on as it came."""
        return self not in {HookKind.GITLAB, HookKind.STANDARD, HookKind.GENERIC}

    @property
    def is_signed(self) -> bool:
        """Whether its sender signs, and so the secret itself has to be kept."""
        return self in {HookKind.GITHUB, HookKind.FORGEJO, HookKind.STANDARD}

    @property
    def has_secret_in_path(self) -> bool:
        """Whether its sender can prove itself by nothing but the address."""
        return self in {HookKind.DOCKERHUB, HookKind.QUAY}


@dataclass(frozen=True, slots=True)
class ListHooks:
    """``hooks``: the caller's hooks, and what came of their last deliveries."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class AddHook:
    """``hooks add``: make one.  A topic that ends with ``/`` is a space; ``hold`` is in seconds."""

    topic: str
    kind: HookKind = HookKind.GENERIC
    hold: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse a space where nothing would name the topic in it."""
        if self.topic.endswith("/") and not self.kind.tells_of_images:
            raise UsageError(
                f"a hook of kind {self.kind.value} needs a topic: in a space, images name it"
            )


@dataclass(frozen=True, slots=True)
class RemoveHook:
    """``hooks rm``: remove a hook."""

    hook: str


@dataclass(frozen=True, slots=True)
class RotateHook:
    """``hooks rotate``: give a hook another secret."""

    hook: str


@dataclass(frozen=True, slots=True)
class TestHook:
    """``hooks test``: publish an event as if it had been delivered."""

    __test__ = False  # pytest would take it for a test

    hook: str


AboutHooks = ListHooks | AddHook | RemoveHook | RotateHook | TestHook


def _hold(text: str) -> float:
    seconds = parse_duration(text)
    if seconds > MAX_HOLD:
        raise UsageError(f"an event waits for {format_duration(MAX_HOLD)} at most")
    return seconds


_ID = Argument("hook", "ID", required=True)

HOOK_COMMANDS = (
    Command(
        "hooks",
        ListHooks,
        "list your hooks, by which other services publish",
        "Shows what came of the last delivery of each; --json tells of the last 20.",
        flags=(Flag("json", "--json", boolean, "print JSON"),),
    ),
    Command(
        "hooks add",
        AddHook,
        "make an address where a service tells what happened",
        "Prints its URL and its secret, once. For registries TOPIC may be a space, as alice/: then"
        " each image has its own topic there, NAME:TAG.",
        (Argument("topic", "TOPIC", required=True),),
        (
            Flag("kind", "--kind", one_of(HookKind), "whose webhooks they are", "KIND"),
            Flag("hold", "--hold", _hold, "how long an event waits for a reader", "DUR"),
            Flag("name", "--name", label, "what it is for, to tell it from others", "TEXT"),
        ),
    ),
    Command(
        "hooks rm",
        RemoveHook,
        "remove a hook",
        "The start of its ID is enough if no other of yours starts so.",
        (_ID,),
    ),
    Command(
        "hooks rotate",
        RotateHook,
        "give a hook another secret, and print it once",
        "The old one counts no more.",
        (_ID,),
    ),
    Command(
        "hooks test",
        TestHook,
        "publish a test event by a hook, and say who read it",
        arguments=(_ID,),
    ),
)
"""The commands, in the order that help lists them."""
