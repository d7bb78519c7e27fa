"""``pipe check``: looks at a configuration as a start of the server would, and changes nothing.

    findings    what is found, and how bad it is
    files       the data folder, host key, web key, key files and CAs
    accounts    the database, and who may log in
    places      addresses and ports, and where browsers are led
    tls         the certificate for HTTPS
    mesh        its settings and certificates
    system      descriptors, processors and the clock
    registry    whether the container registry answers

It makes no file, migrates no database and accepts no connection.  Where it can it asks the code
that the start itself runs, so that both agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.check.accounts import check_accounts
from pipe.check.files import check_files
from pipe.check.findings import Finding, Level
from pipe.check.mesh import check_mesh
from pipe.check.places import check_places
from pipe.check.registry import check_registry
from pipe.check.system import check_system
from pipe.check.tls import check_tls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.settings import Settings

__all__ = ["Finding", "Level", "check"]


def check(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one finding after the other; it waits for networks and disks."""
    yield from check_files(settings)
    yield from check_accounts(settings)
    yield from check_places(settings)
    yield from check_tls(settings)
    yield from check_registry(settings)
    yield from check_mesh(settings)
    yield from check_system(settings)
