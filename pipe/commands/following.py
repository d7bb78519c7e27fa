"""Which commands go on answering, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.screen import no_screen
from pipe.commands.stat import MemberLooks
from pipe.commands.topic_lists import TopicLists
from pipe.language.progress_requests import Top

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.commands.latest import Latest
    from pipe.commands.screen import Screen
    from pipe.language.progress_requests import Stat
    from pipe.rights.callers import Caller
    from pipe.service import Service


def follow(
    service: Service, caller: Caller, request: Top | Stat, screen: Callable[[], Screen | None]
) -> Latest:
    """Return what makes the answers; JSON is not for a screen.

    Raises:
        PipeError: the caller may not have them.
    """
    if request.json:
        screen = no_screen
    if isinstance(request, Top):
        return TopicLists(service, caller, request, screen)
    return MemberLooks(service, caller, request, screen)
