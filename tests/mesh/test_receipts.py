"""A receipt across a link: programs have it before the line that says the same to people."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipe.errors import Outcome
from pipe.mesh.home import FarFront
from pipe.stream.ports import Receipt

from .simulation import FarClient, Pair, open_session

if TYPE_CHECKING:
    from pipe.elsewhere import Errand
    from pipe.mesh.home import HomeEnd

RECEIPT = Receipt(5, 1, 0)


class Listener(FarClient):
    """A client that remembers what it had known of a receipt when it was told a line."""

    def __init__(self) -> None:
        super().__init__(1, confirms=False)
        self.heard: list[tuple[str, bool]] = []

    def tell(self, text: str) -> None:
        """A line."""
        self.heard.append((text, any(one.receipt for one in self.facts)))


def test_a_receipt_is_known_before_its_line() -> None:
    """Or a program that shows receipts would show the line as well; it comes once."""
    session: Any = SimpleNamespace(member=None, receipt=None)
    router: Any = None
    fronts: list[FarFront] = []

    def welcome(end: HomeEnd, number: int, errand: Errand) -> FarFront:
        front = FarFront(end.link, number, errand, router, 1, end.forget)
        front.session = session
        fronts.append(front)
        return front

    pair, client = Pair(welcome), Listener()
    open_session(pair, client)
    pair.settle()
    [front] = fronts
    front.tell("waiting for 1 subscriber")
    session.receipt = RECEIPT
    front.tell("sent 5 bytes to 1 subscriber")
    front.tell("goodbye")
    front.finish(Outcome.DONE, 0)
    pair.settle()
    assert client.heard == [
        ("waiting for 1 subscriber", False),
        ("sent 5 bytes to 1 subscriber", True),
        ("goodbye", True),
    ]
    assert [one.receipt for one in client.facts] == [RECEIPT]
    assert client.ending == (Outcome.DONE, 0)
