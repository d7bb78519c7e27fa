"""A patient `pipe` whose links to other machines take a detour, through a test's proxies.

They go to `DETOUR` instead of where the other machine listens, and to the same port.  Run as
`python -m`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pipe.mesh.wires
from pipe.cli import main

from .patient import be_patient

if TYPE_CHECKING:
    from pipe.mesh.directory import WorkerId
    from pipe.mesh.tls import TlsWire
    from pipe.mesh.wire import End

DETOUR: Final = "127.0.0.2"
PROGRAM: Final = "tests.e2e.detour"


def take_a_detour() -> None:
    """Do so from now on."""
    wires = pipe.mesh.wires.TlsWires
    connect = wires.connect

    async def connected(
        self: pipe.mesh.wires.TlsWires, worker: WorkerId, place: tuple[str, int], end: End
    ) -> TlsWire:
        return await connect(self, worker, (DETOUR, place[1]), end)

    wires.connect = connected  # type: ignore[method-assign]


if __name__ == "__main__":
    be_patient()
    take_a_detour()
    sys.exit(main())
