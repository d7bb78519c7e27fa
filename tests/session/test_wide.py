"""A reader on a pattern whose topics are at home in several workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from pipe.elsewhere import Errand
from pipe.errors import Outcome
from pipe.language.requests import OnSlow, Subscribe
from pipe.rights.callers import Caller
from pipe.session.wide import Wide
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from pipe.elsewhere import Client


class Elsewhere:
    """One other worker: an `Elsewhere`, and a `Visit` there."""

    def __init__(self) -> None:
        self.workers = ("2",)
        self.client: Client
        self.way = Mock()
        self.settle = Mock()

    def follow(self, changed: object) -> Mock:  # noqa: ARG002
        """Nobody comes or goes."""
        return Mock()

    async def reach(self, worker: object) -> Elsewhere:  # noqa: ARG002
        """It is there."""
        return self

    def open(self, errand: object, client: Client) -> Mock:  # noqa: ARG002
        """Run a part of the session."""
        self.client = client
        client.joined()
        return self.way


@pytest.mark.parametrize(
    ("outcome", "cuts"), [(Outcome.SLOW, [Outcome.SLOW]), (Outcome.SHUTDOWN, [])]
)
async def test_part_that_is_cut(outcome: Outcome, cuts: list[Outcome]) -> None:
    """A reader that wants to be cut off if it is slow is cut off as a whole; no other part is."""
    elsewhere: Any = Elsewhere()
    port: Any = Mock(pending=0, clogged=False)
    session: Any = Mock()
    router: Any = Mock()
    wide = Wide(session, port, Member(Mode.SUBSCRIBE, sink=port), router, elsewhere)
    request = Subscribe("**", on_slow=OnSlow.DISCONNECT)
    caller = Caller("alice", "SHA256:alice")
    await wide.join(Errand(request, caller, "here", (), (), None, "\n", {}), Mock())
    elsewhere.client.cut(outcome, "")
    assert [call.args[0] for call in port.cut.call_args_list] == cuts
    elsewhere.way.leave.assert_called_once()
    wide.leave()
