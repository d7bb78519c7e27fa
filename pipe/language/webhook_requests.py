"""The requests and commands about outgoing webhooks; `requests` includes them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pipe.language.flags import Argument, Command, Flag, boolean, one_of
from pipe.language.token_requests import label


class Posting(enum.Enum):
    """What one POST of a webhook has: a whole stream, or one line of it."""

    NONE = "none"
    LINE = "line"


@dataclass(frozen=True, slots=True)
class ListWebhooks:
    """``webhooks``: the caller's webhooks."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class AddWebhook:
    """``webhooks add``: send what a topic gets to a URL; both as the user wrote them."""

    topic: str
    url: str
    posting: Posting = Posting.NONE
    name: str = ""


@dataclass(frozen=True, slots=True)
class RemoveWebhook:
    """``webhooks rm``: remove a webhook."""

    webhook: str


@dataclass(frozen=True, slots=True)
class TestWebhook:
    """``webhooks test``: send a test now."""

    __test__ = False  # pytest would take it for one of its own

    webhook: str


@dataclass(frozen=True, slots=True)
class ResumeWebhook:
    """``webhooks resume``: let a webhook that was paused go on."""

    webhook: str


AboutWebhooks = ListWebhooks | AddWebhook | RemoveWebhook | TestWebhook | ResumeWebhook

_ID = Argument("webhook", "ID", required=True)
_START = "The start of its ID is enough if no other of yours starts so."

WEBHOOK_COMMANDS = (
    Command(
        "webhooks",
        ListWebhooks,
        "list your webhooks, and how they do",
        "A webhook sends what a topic gets to an address on the web, by POST.",
        flags=(Flag("json", "--json", boolean, "print JSON"),),
    ),
    Command(
        "webhooks add",
        AddWebhook,
        "send what a topic gets to a URL",
        "Sends one POST for each stream, up to 1 MiB of it, or for each line with --frame line."
        " Prints the secret that signs them, this once.",
        (Argument("topic", "TOPIC", required=True), Argument("url", "URL", required=True)),
        (
            Flag("posting", "--frame", one_of(Posting), "one POST for each line, or none", "WHAT"),
            Flag("name", "--name", label, "what it is for, to tell it from others", "TEXT"),
        ),
    ),
    Command("webhooks rm", RemoveWebhook, "remove a webhook", _START, (_ID,)),
    Command(
        "webhooks test",
        TestWebhook,
        "send a test now, and say what came back",
        _START,
        (_ID,),
    ),
    Command(
        "webhooks resume",
        ResumeWebhook,
        "let a webhook go on that was paused",
        f"One is paused when nothing has arrived for a day. {_START}",
        (_ID,),
    ),
)
"""The commands, in the order that help lists them."""
