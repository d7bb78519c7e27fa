"""What is said of a session that is over: in the log, in the metrics, and to its user."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from pipe.errors import Outcome
from pipe.language.chat_requests import Chat
from pipe.language.requests import NAMES, Pipe, Publish, Subscribe
from pipe.metrics import COMMAND_MODE
from pipe.stream.ports import Mode
from pipe.stream.traffic import Traffic

if TYPE_CHECKING:
    from pipe.language.requests import Request
    from pipe.service import Service
    from pipe.session.intake import Intake
    from pipe.stream.topics import Member

log = structlog.get_logger()

_MODES = {
    Publish: Mode.PUBLISH.value,
    Subscribe: Mode.SUBSCRIBE.value,
    Pipe: Mode.PIPE.value,
    Chat: Mode.PIPE.value,
}
"""The ``mode`` label of a session, even if it was refused its topic."""

_ORDINARY = frozenset({Outcome.DONE, Outcome.LEFT, Outcome.INTERRUPTED, Outcome.SHUTDOWN})
"""Ends that are no reason to look closer."""


class Ended(NamedTuple):
    """A session that is over.

    ``topic`` is empty if it had none, and ``client`` says what the client's software is.
    """

    user: str
    address: str
    client: dict[str, str]
    request: Request | None
    topic: str
    outcome: Outcome
    traffic: Traffic
    seconds: float
    error: Exception | None


def report(service: Service, ended: Ended) -> None:
    """Say all of it.  Users are told of their streams; their commands answered by themselves.

    Nothing is said of a session that goes on in another process: that one will report it.
    """
    if ended.outcome is Outcome.MOVED:
        return
    mode = _MODES.get(type(ended.request), COMMAND_MODE)
    label, seconds = ended.outcome.label, round(ended.seconds, 3)
    service.metrics.sessions_ended.labels(mode, label).inc()
    service.metrics.session_duration.labels(mode).observe(ended.seconds)
    log.info(
        "session ended",
        user=ended.user,
        address=ended.address,
        **ended.client,
        mode=mode,
        **_subject(service, ended, mode),
        outcome=label,
        **ended.traffic.log_fields(),
        seconds=seconds,
        **({"error": str(ended.error)} if ended.error else {}),
    )
    if ended.topic:
        service.tell_owner(
            ended.user,
            "INFO" if ended.outcome in _ORDINARY else "WARN",
            "session ended",
            address=ended.address,
            mode=mode,
            topic=ended.topic,
            outcome=label,
            received=ended.traffic.received,
            delivered=ended.traffic.delivered,
            seconds=seconds,
        )


def _subject(service: Service, ended: Ended, mode: str) -> dict[str, str]:
    """The command, or the topic if it may be named."""
    if mode == COMMAND_MODE and ended.request:
        return {"command": NAMES[type(ended.request)]}
    if ended.topic and service.settings.log_topics:
        return {"topic": ended.topic}
    return {}


def traffic_of(member: Member | None, intake: Intake) -> Traffic:
    """What a session has moved; nothing if it was on no topic."""
    if member is None:
        return Traffic()
    return Traffic(
        member.received_bytes,
        member.received_chunks,
        member.written_bytes,
        member.accepted_chunks,
        intake.held_seconds,
        intake.waited_seconds,
    )
