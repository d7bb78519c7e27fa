"""A patient `pipe` whose clients and topics are in the workers that a test says, or in others.

- A client that comes from 127.0.1.N is given to worker N.
- A topic whose name begins with ``atN`` is at home in worker N, if that serves; any other one is at
  home in another worker than whoever joins first.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pipe.hub.homes
import pipe.hub.moves
import pipe.hub.reception
from pipe.cli import main

from .patient import be_patient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.hub.crew import Worker
    from pipe.limits.gate import Visit
    from pipe.mesh.directory import Home, WorkerId


def serve(*, moves: bool) -> None:
    """Be that program.

    Args:
        moves: whether clients move to where their topics are at home; otherwise they are relayed.
    """
    be_patient()
    _place_by_address()
    _settle_by_name()
    if not moves:
        pipe.hub.moves.Moves.carry = lambda *_: False  # type: ignore[method-assign]
    sys.exit(main())


def _place_by_address() -> None:
    reception: Any = pipe.hub.reception.Reception
    place = reception._place  # noqa: SLF001

    def placed(self: Any, kind: str, connection: object, visit: Visit) -> None:  # noqa: ANN401
        find = self._find
        wanted = re.fullmatch(r"127\.0\.1\.(\d)", visit.source)

        def choose(kind: str) -> list[Worker]:
            found: list[Worker] = find(kind)
            return [one for one in found if wanted and one.key == wanted[1]] or found

        self._find = choose
        try:
            place(self, kind, connection, visit)
        finally:
            self._find = find

    reception._place = placed  # noqa: SLF001


def _settle_by_name() -> None:
    homes: Any = pipe.hub.homes.Homes
    enter = homes.enter

    def entered(self: object, topic: str, asker: WorkerId, busy: Mapping[WorkerId, float]) -> Home:
        wanted = re.match(r"at(\d)", topic.rpartition("/")[2])
        numbers = {int(wanted[1])} if wanted else {one.number for one in busy} - {asker.number}
        some = {one: 0.0 for one in busy if one.number in numbers} or busy
        home: Home = enter(self, topic, asker, some)
        return home

    homes.enter = entered
