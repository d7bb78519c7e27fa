"""What readers that come and go in mid-stream, and their publisher, are told.

``--whole`` makes the same promise on both sides: a reader that ends with status 0 got the stream
from its first byte to its last.  `sub --whole` is refused if it comes too late.  With `pub --whole`
every late reader is refused, and the publisher breaks when its last reader leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import NobodyLeft, Outcome, TooLate
from pipe.language.durations import format_duration
from pipe.language.requests import Publish, Subscribe
from pipe.language.wording import amount, count

if TYPE_CHECKING:
    from pipe.language.names import TopicName
    from pipe.language.requests import Pipe
    from pipe.stream.ports import Receipt
    from pipe.stream.router import Router
    from pipe.stream.topics import Member


def what_it_missed(
    router: Router, name: TopicName, request: Publish | Subscribe | Pipe
) -> list[str]:
    """Return the line for a reader that joins now, if it missed anything.

    What a `pipe` has written counts only for a reader that wants the whole stream: in a chat nobody
    expects to get what was said before.

    Raises:
        TooLate: the reader wants the whole stream, and it has already begun.
    """
    if isinstance(request, Publish):
        return []
    begun = router.begun(name)
    wants_whole = isinstance(request, Subscribe) and request.whole
    missed = begun.stream_bytes + (begun.pipe_bytes if wants_whole else 0)
    if begun.shut or (wants_whole and missed):
        raise TooLate(f"too late for the whole stream: {amount(missed)} went by before")
    return [f"joined in mid-stream: {amount(missed)} went by before"] if missed else []


def what_it_waits_for(request: Publish, missing: int, sent: int) -> str:
    """Return the line for a publisher that waits for ``missing`` readers after ``sent`` bytes.

    Raises:
        NobodyLeft: the stream must stay whole, and a reader that comes now would miss its start.
    """
    patience = format_duration(request.timeout)
    if not sent:
        return f"waiting for {count(missing, 'subscriber')}, up to {patience}"
    gone = f"no subscriber left after {amount(sent)}"
    if request.whole:
        raise NobodyLeft(f"{gone}, and with --whole nobody else may have the rest")
    return f"{gone}; waiting for another, up to {patience}"


def why_over(outcome: Outcome, member: Member | None) -> str:
    """Return the line for a reader whose stream is over."""
    if outcome is Outcome.DROPPED and member:
        return f"dropped {count(member.dropped_bytes, 'byte')}: this reader fell behind"
    return outcome.text


def why_it_gave_up(request: Publish, missing: int) -> str:
    """Return the line for a publisher that got no readers, or too few, in time."""
    patience = format_duration(request.timeout)
    return f"gave up: {count(missing, 'subscriber')} still missing after {patience}"


def what_was_sent(receipt: Receipt, at: int | None) -> str:
    """Return the line for a publisher whose whole stream has arrived; it began at byte ``at``."""
    since = f" from byte {at} on" if at else ""
    early = f", {receipt.left_early} of them left early" if receipt.left_early else ""
    return (
        f"sent {count(receipt.sent_bytes, 'byte')}{since} "
        f"to {count(receipt.subscribers, 'subscriber')}{early}"
    )
