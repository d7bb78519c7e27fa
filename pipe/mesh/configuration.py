"""What the settings say about the mesh, as a whole."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, NamedTuple

from pipe.errors import BadName, SettingsError
from pipe.language.names import quoted
from pipe.language.places import Place, parse_node
from pipe.mesh.certificates import MeshFiles

if TYPE_CHECKING:
    from pipe.settings import Settings


MAX_PORT = 65535
"""Workers that take the place of others have ports beyond theirs, so twice as many are needed."""


class MeshConfiguration(NamedTuple):
    """What one node has to know.

    Attributes:
        node: its name.
        listen: where others reach its hub; worker N listens on the Nth port after that one.
        join: where others may be.
        files: its certificate.
    """

    node: str
    listen: Place
    join: tuple[Place, ...]
    files: MeshFiles


def read_mesh(settings: Settings) -> MeshConfiguration | None:
    """Return what the settings say; None if this machine is not part of a mesh.

    Raises:
        SettingsError: they do not fit together: one line says what is missing.
    """
    files = settings.mesh_ca, settings.mesh_cert, settings.mesh_key
    if settings.mesh is None:
        if settings.join or any(files) or settings.node:
            raise SettingsError(
                "join, node and the mesh's certificates need --mesh HOST:PORT, where other nodes"
                " reach this one"
            )
        return None
    ca, certificate, key = files
    if ca is None or certificate is None or key is None:
        raise SettingsError(
            "--mesh needs --mesh-ca, --mesh-cert and --mesh-key: 'pipe mesh certificate NAME'"
            " makes the files"
        )
    if "," in settings.mesh:
        raise SettingsError("--mesh is one place: give other nodes' with --join")
    listen = Place.parse(settings.mesh)
    if _is_anywhere(listen.host):
        raise SettingsError(
            f"--mesh {listen} tells other nodes nothing: give the address at which they reach this"
            " machine"
        )
    if listen.port + 2 * settings.workers > MAX_PORT:
        raise SettingsError(f"--mesh {listen} leaves no ports for workers: give a lower one")
    if settings.resolved_database_url.startswith("sqlite"):
        raise SettingsError(
            "--mesh needs a PostgreSQL that all nodes share, and not SQLite: give --database-url"
            " postgresql://user@host/database"
        )
    join = tuple(map(Place.parse, settings.join.split(","))) if settings.join else ()
    return MeshConfiguration(_node(settings), listen, join, MeshFiles(ca, certificate, key))


def _is_anywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _node(settings: Settings) -> str:
    if settings.node:
        return settings.node
    name = socket.gethostname().partition(".")[0].lower()
    try:
        return parse_node(name)
    except BadName as error:
        raise SettingsError(
            f"the host name {quoted(name)} is no name for a node: choose one with --node"
        ) from error
