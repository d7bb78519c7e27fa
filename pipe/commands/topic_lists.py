"""``top``: the list of topics again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.latest import Latest
from pipe.commands.ls import list_topics, who_is_missing
from pipe.language.names import parse_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.commands.screen import Screen
    from pipe.language.progress_requests import Top
    from pipe.rights.callers import Caller
    from pipe.service import Service


class TopicLists(Latest):
    """Lists for one reader: tables, or lines with a JSON array each.

    Raises:
        BadName: the pattern is not valid.
    """

    def __init__(
        self,
        service: Service,
        caller: Caller,
        request: Top,
        screen: Callable[[], Screen | None],
    ) -> None:
        if request.pattern:
            parse_pattern(request.pattern, caller=caller.user)
        super().__init__(service, caller, screen)
        self._request = request

    async def make(self) -> str:
        """Make the list as it is now."""
        pattern, as_json = self._request.pattern, self._request.json
        found = await list_topics(self._service, self._caller, pattern, as_json=as_json)
        if as_json:
            return f"[{','.join(found.text.splitlines())}]\n"
        missing = f"{who_is_missing(found.missing)}\n" if found.missing else ""
        return f"{found.text}{missing}\n"
