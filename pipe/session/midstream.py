"""Readers that come and go in mid-stream: what they and the publisher are told.

``--whole`` makes one promise, on either side: a reader that ends with status 0 has had the stream
from its first byte to its last.  `sub --whole` is refused when it comes too late.  With
`pub --whole` every latecomer is refused, and the publisher breaks when its last reader leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.layout import amount, count
from pipe.errors import NobodyLeft, TooLate
from pipe.language.durations import format_duration
from pipe.language.requests import Publish, Subscribe

if TYPE_CHECKING:
    from pipe.language.names import TopicName
    from pipe.language.requests import Pipe
    from pipe.stream.router import Router


def what_it_missed(
    router: Router, name: TopicName, request: Publish | Subscribe | Pipe
) -> list[str]:
    """Return the line for a reader that joins now, if anything went by before.

    What a `pipe` has written counts only for a reader that wants the whole: in a chat nobody
    expects to have heard what was said before.

    Raises:
        TooLate: only the whole stream will do, and that is not to be had any more.
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
    """Return the line for a publisher that waits for so many, having sent so many bytes.

    Raises:
        NobodyLeft: who comes now would not have the whole, and nobody is to have less.
    """
    patience = format_duration(request.timeout)
    if not sent:
        return f"waiting for {count(missing, 'subscriber')}, up to {patience}"
    gone = f"no subscriber left after {amount(sent)}"
    if request.whole:
        raise NobodyLeft(f"{gone}, and with --whole nobody else may have the rest")
    return f"{gone}; waiting for another, up to {patience}"


def why_it_gave_up(request: Publish, missing: int) -> str:
    """Return the line for a publisher for which nobody, or not enough, came in time."""
    patience = format_duration(request.timeout)
    return f"gave up: {count(missing, 'subscriber')} still missing after {patience}"
