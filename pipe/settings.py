"""Every setting once: its name, unit, default, bounds, and why it is there.

`load` reads four sources, highest priority first: command line, environment (``PIPE_NAME``), the
TOML file given with ``--config``, default.  The result is frozen, and the rest of the program gets
plain values.  The command line makes its options and their help from the fields of `Settings`.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import socket
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from pipe.errors import BadName, SettingsError, UsageError
from pipe.language.names import PUBLIC, TopicName, escape, parse_topic, quoted
from pipe.language.places import NODE_RULE, PLACE_RULE, check_node, check_places
from pipe.language.quantities import GIB, HOUR, KIB, MIB, Quantity, count, duration, size
from pipe.limits.bounds import NO_NETWORKS, Limits, Networks, check_networks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ENVIRONMENT_PREFIX = "PIPE_"
CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
"""Names the TOML file if there is no ``--config``."""

CLIENT_VARIABLES = ("PIPE_SERVER", "PIPE_TOKEN")
"""For those who use a server: see `pipe.client.command`."""

YES, NO = "yes", "no"
"""How to write a switch outside of TOML, which has its own ``true`` and ``false``."""

AUTO = "auto"
"""As many workers as there are processors."""

DATABASE_NAME = "pipe.db"
"""The SQLite file in the data folder."""


class Signup(StrEnum):
    """Whether the first key that logs in under a free name may claim it."""

    OPEN = "open"
    CLOSED = "closed"


class LogFormat(StrEnum):
    """How a log line looks: for people or for machines."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least important lines that are still logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Lane(StrEnum):
    """The data path between packets and router: our own, or asyncssh's for comparison."""

    FAST = "fast"
    ASYNCSSH = "asyncssh"


def _check_host(host: str) -> str:
    """Refuse what cannot be an address; ``""`` means all interfaces to the operating system."""
    if not host or not host.isprintable() or set(host) & set(" /@[]"):
        raise ValueError
    return host


def _check_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError
    return path


def _check_database(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("sqlite", "postgresql"):
        raise ValueError
    return url


def _check_web_url(url: str) -> str:
    """Refuse what is not an origin: pages compare it with what browsers send, without a path."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.path not in {"", "/"}:
        raise ValueError
    if parts.query or parts.fragment or "@" in parts.netloc or not url.isascii():
        raise ValueError
    host, port = parts.hostname, parts.port  # an invalid port raises ValueError
    if not host or port == 0:
        raise ValueError
    _check_host(host)
    return url.rstrip("/").lower()


def _check_registry_url(url: str) -> str:
    """Refuse what no request can go to; a path is that of a registry behind a gateway."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ValueError
    if not parts.hostname or parts.port == 0:  # an invalid port raises ValueError
        raise ValueError
    if not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>'):
        raise ValueError
    return url.rstrip("/")


def _check_drain(text: str) -> str:
    """Refuse what is no topic of somebody's: in the public space everybody could write."""
    try:
        topic = parse_topic(text, caller=PUBLIC)
    except BadName:
        raise ValueError from None
    if topic.owner == PUBLIC:
        raise ValueError
    return str(topic)


def _read_switch(value: object) -> bool:
    if value is True or value == YES:
        return True
    if value is False or value == NO:
        return False
    raise ValueError


HostName = Annotated[str, AfterValidator(_check_host)]
FilePath = Annotated[Path, AfterValidator(_check_path)]
RegistryURL = Annotated[str, AfterValidator(_check_registry_url)]
DrainTopic = Annotated[str, AfterValidator(_check_drain)]
MeshPlace = Annotated[str, AfterValidator(check_places)]
NodeName = Annotated[str, AfterValidator(check_node)]
WebURL = Annotated[str, AfterValidator(_check_web_url)]
DatabaseURL = Annotated[str, AfterValidator(_check_database)]
Switch = Annotated[bool, BeforeValidator(_read_switch)]

MOST_WORKERS = 256
"""More than there are cores: each opens the database and takes some 60 MiB."""


def _parse_workers(text: str) -> int:
    """Read a number, or ``auto``: as many as this process may use processors.

    Raises:
        UsageError: It is neither.
    """
    if text == AUTO:
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    if text.isascii() and text.isdigit() and len(text) <= 20:
        return int(text)
    raise UsageError("this is not a whole number")


_WORKERS = BeforeValidator(
    Quantity(
        "N",
        _parse_workers,
        "{:.0f}".format,
        1,
        MOST_WORKERS,
        f", or {AUTO}: one per processor",
    )
)

_ALLOWED_TEXT = {
    _check_host: ("HOST", "a host name or an IP address, IPv6 without brackets"),
    _check_path: ("PATH", "a path"),
    _check_database: ("URL", "sqlite:////absolute/path or postgresql://user@host/database"),
    _check_drain: ("TOPIC", "a topic with its owner, as in ops/log-drain, and not a public one"),
    check_places: ("HOST:PORT", PLACE_RULE),
    check_node: ("NAME", NODE_RULE),
    _check_web_url: ("URL", "https://host or http://host:port, without a path"),
    _check_registry_url: ("URL", "http://host:port or https://host, perhaps with a path"),
    _read_switch: (f"{YES}|{NO}", f"{YES} or {NO}"),
    check_networks: ("NETWORKS", "networks such as 10.0.0.0/8,::1, or none"),
}


class Settings(Limits):
    """All settings, frozen: durations in seconds, sizes in bytes.

    `load` makes it from all sources; made directly it has only its arguments and defaults.
    """

    host: HostName = Field(
        default="127.0.0.1",
        description="address to listen on; only this machine unless somebody decides otherwise;"
        " 0.0.0.0 is every IPv4 address, and :: every one",
    )
    port: Annotated[int, count(0, 65535, " (0: any free port)")] = Field(
        default=2222,
        description="TCP port for SSH; 22 would take root and the machine's own sshd has it",
    )
    data_dir: FilePath = Field(
        default=Path("data"),
        description="folder of the host key and the SQLite file, for the server alone",
    )
    database_url: DatabaseURL | None = Field(
        default=None,
        description="accounts database, for one that several servers share; default: SQLite file"
        " pipe.db in the data folder",
        repr=False,
    )
    metrics_host: HostName = Field(
        default="127.0.0.1",
        description="address for Prometheus; metrics need no login, so keep it private",
    )
    metrics_port: Annotated[int, count(0, 65535, " (0: no metrics)")] = Field(
        default=9222, description="HTTP port for Prometheus"
    )
    web_host: HostName = Field(
        default="127.0.0.1", description="address for HTTP; only this machine unless set otherwise"
    )
    web_port: Annotated[int, count(0, 65535, " (0: no HTTP)")] = Field(
        default=8222, description="TCP port for HTTP"
    )
    web_url: WebURL | None = Field(
        default=None,
        description="where browsers reach the web pages, as links and logins print it; default:"
        " http, from web-host and web-port",
    )
    web_tls_cert: FilePath | None = Field(
        default=None,
        description="PEM file of the certificate for HTTPS and its chain, read again when it"
        " changes; default: plain HTTP",
    )
    web_tls_key: FilePath | None = Field(
        default=None, description="PEM file of its private key; default: the one of the certificate"
    )
    web_proxies: Networks = Field(
        default=NO_NETWORKS,
        description="reverse proxies for HTTP, whose word counts for where a client is",
    )
    web_plain: Switch = Field(
        default=False,
        description="whether tokens may cross a network in the open: plain HTTP on other than a"
        " loopback address, without a proxy",
    )
    web_tunnel: Switch = Field(
        default=True,
        description="whether users reach HTTP inside their SSH connections too, with ssh -L",
    )
    registry_url: RegistryURL | None = Field(
        default=None,
        description="container registry that users push to and pull from through this server, at"
        " /v2/, perhaps with a password as in http://name:password@host:5000; default: none",
        repr=False,
    )
    webhook_networks: Networks = Field(
        default=NO_NETWORKS,
        description="private networks that webhooks may send to, also by plain HTTP; whoever has an"
        " account can then reach what is there",
    )
    signup: Signup | None = Field(
        default=None,
        description="whether a new key may claim a free name; default: open on a loopback host,"
        " closed elsewhere, as strangers can reach that",
    )
    authorized_keys: FilePath | None = Field(
        default=None,
        description="folder with a file of keys per user, as sshd's authorized_keys, read again"
        " when it changes; such users need no account beforehand",
    )
    trusted_ca: FilePath | None = Field(
        default=None,
        description="file of public keys of CAs whose certificates log in as their principal, read"
        " again when it changes",
    )
    mesh: MeshPlace | None = Field(
        default=None, description="where other nodes of a mesh reach this one; default: no mesh"
    )
    mesh_cert: FilePath | None = Field(
        default=None,
        description="PEM file of this node's certificate, as 'pipe mesh certificate' makes it",
    )
    mesh_key: FilePath | None = Field(default=None, description="PEM file of its private key")
    mesh_ca: FilePath | None = Field(
        default=None,
        description="PEM file of the mesh's CA: whoever has a certificate of it is trusted with"
        " everything",
    )
    join: MeshPlace | None = Field(
        default=None, description="where another node of the mesh is; may be given again"
    )
    node: NodeName | None = Field(
        default=None, description="name in the mesh; default: the host name's first label"
    )
    log_format: LogFormat = Field(
        default=LogFormat.CONSOLE, description="log lines for people, or JSON for a log collector"
    )
    log_topics: Switch = Field(
        default=False,
        description="whether log lines name topics, which are their owners' business",
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="least important lines to log")
    log_drain: DrainTopic | None = Field(
        default=None,
        description="topic where services publish log lines for users, as OWNER/TOPIC; whoever may"
        " write it is trusted to say whose a line is",
    )
    drain: Annotated[float, duration(0, HOUR)] = Field(
        default=30.0,
        description="how long a stop lets moving streams finish; a service manager waits 90s",
    )
    public_host: HostName | None = Field(
        default=None,
        description="host name that help and receipts print; default: the host to listen on, or"
        " the machine's own name",
    )
    public_port: Annotated[int, count(1, 65535)] | None = Field(
        default=None,
        description="port that help and receipts print, where another one is redirected to this;"
        " default: the port to listen on",
    )
    stall_timeout: Annotated[float, duration(0.1, HOUR)] = Field(
        default=60.0, description="how long one reader may take nothing while others wait for it"
    )
    buffer: Annotated[int, size(64 * KIB, 64 * MIB)] = Field(
        default=MIB,
        description="bytes that wait for one reader before its topic's writers are paused",
    )
    window: Annotated[int, size(64 * KIB, 64 * MIB)] = Field(
        default=MIB,
        description="bytes that a writer may send ahead per channel: memory against distance",
    )
    workers: Annotated[int, _WORKERS] = Field(
        default=1,
        description="processes that share the work, each with a core of its own; with more than one"
        " another process accepts for them",
    )
    lane: Lane = Field(
        default=Lane.FAST, description="data path: our own, or asyncssh's to compare"
    )
    rekey_bytes: Annotated[int, size(64 * KIB, 64 * GIB)] = Field(
        default=GIB, description="bytes under one encryption key; RFC 4253 section 9 asks for 1 GiB"
    )

    @property
    def resolved_signup(self) -> Signup:
        """``signup``, or the default for the host that the server listens on."""
        if self.signup is not None:
            return self.signup
        return Signup.OPEN if is_loopback(self.host) else Signup.CLOSED

    @property
    def resolved_public_host(self) -> str:
        """The host name to print; the machine's if the server listens on all addresses."""
        return self.public_host or (socket.gethostname() if is_wildcard(self.host) else self.host)

    @property
    def resolved_web_url(self) -> str:
        """Where browsers reach the web pages, without a trailing slash; empty if there are none."""
        if not self.web_port:
            return ""
        if self.web_url:
            return self.web_url
        host = self.resolved_public_host if is_wildcard(self.web_host) else self.web_host
        place = f"[{host}]" if ":" in host else host
        scheme = "https" if self.web_tls_cert else "http"
        return f"{scheme}://{place}:{self.web_port}"

    @property
    def log_drain_topic(self) -> TopicName | None:
        """``log_drain`` as a name."""
        return parse_topic(self.log_drain, caller=PUBLIC) if self.log_drain else None

    @property
    def resolved_database_url(self) -> str:
        """The URL of the accounts database; by default a file in the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / DATABASE_NAME}"

    @property
    def host_key_path(self) -> Path:
        """The private key that identifies this server to clients."""
        return self.data_dir / "host_key"

    @property
    def web_key_path(self) -> Path:
        """The file with the key that secrets of webhooks and secret addresses are derived from."""
        return self.data_dir / "web_key"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listener on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_wildcard(host: str) -> bool:
    """Return whether this means all addresses of the machine, of at least one family."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def setting_names() -> tuple[str, ...]:
    """All settings: those for setting up a server first, then the limits."""
    return tuple(sorted(Settings.model_fields, key=Limits.model_fields.__contains__))


def option_name(name: str) -> str:
    """The command line option of a setting."""
    return f"--{name.replace('_', '-')}"


def describe(name: str) -> tuple[str, str]:
    """Describe what a setting takes.

    Returns:
        A short word for a help page (``PORT``, ``open|closed``) and the rule for an error message.
    """
    field = Settings.model_fields[name]
    parts = [*field.metadata, *_annotation_parts(field.annotation)]
    for part in parts:
        check = part.func if isinstance(part, (BeforeValidator, AfterValidator)) else part
        if isinstance(check, Quantity):
            return check.kind, check.allowed
        if isinstance(check, type) and issubclass(check, StrEnum):
            return "|".join(check), " or ".join(check)
        for known, texts in _ALLOWED_TEXT.items():
            if check is known:
                return texts
    raise AssertionError(name)


def default_text(name: str) -> str:
    """The default as one would write it; empty if the description states it."""
    field = Settings.model_fields[name]
    checks = [part.func for part in field.metadata if isinstance(part, BeforeValidator)]
    shown = [check.show(field.default) for check in checks if isinstance(check, Quantity)]
    if isinstance(field.default, bool):
        return YES if field.default else NO
    return shown[0] if shown else str(field.default or "")


def load(options: Mapping[str, object], config: Path | None = None) -> Settings:
    """Read all sources.

    Args:
        options: Values from the command line by field name; None for options that were not given.
        config: The TOML file; without it, the one that ``PIPE_CONFIG`` names, if any.

    Raises:
        SettingsError: One line per setting that is unknown or has a value that is not allowed.
    """
    variable = os.environ.get(CONFIG_VARIABLE)
    path = config or (Path(variable) if variable else None)
    _refuse_unknown_variables()
    layers = [_read_options(options), _read_environment(), _read_file(path) if path else {}]
    merged: dict[str, tuple[object, str]] = {}
    for layer in reversed(layers):
        merged.update(layer)
    try:
        return Settings.model_validate({name: value for name, (value, _) in merged.items()})
    except ValidationError as error:
        names = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        lines = [_complaint(name, *merged[name]) for name in names]
        raise SettingsError("\n".join(lines)) from error


def _read_options(options: Mapping[str, object]) -> dict[str, tuple[object, str]]:
    return {
        name: (value, option_name(name)) for name, value in options.items() if value is not None
    }


def _read_environment() -> dict[str, tuple[object, str]]:
    """Read the environment; an empty variable counts as not set."""
    given = {name.upper(): value for name, value in os.environ.items() if value}
    names = {f"{ENVIRONMENT_PREFIX}{name.upper()}": name for name in Settings.model_fields}
    return {names[key]: (given[key], key) for key in names.keys() & given.keys()}


def _read_file(path: Path) -> dict[str, tuple[object, str]]:
    place = escape(str(path))
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {place}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{place} is not valid TOML: it is not in UTF-8") from error
    except tomllib.TOMLDecodeError as error:  # what it quotes is already escaped
        raise SettingsError(f"{place} is not valid TOML: {error}") from error
    headings = [key for key, value in data.items() if isinstance(value, dict)]
    _refuse_unknown(
        (key.replace("_", "-") for key in data),
        {name.replace("_", "-") for name in Settings.model_fields},
        f"setting in {place}:",
        "; settings stand there without a [heading]" if headings else "",
    )
    return {key.replace("-", "_"): (value, place) for key, value in data.items()}


def _refuse_unknown_variables() -> None:
    """Stop on ``PIPE_PROT``: otherwise a misspelt limit would silently be no limit."""
    known = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields}
    names = (name.upper() for name in sorted(os.environ))
    ours = (name for name in names if name.startswith(ENVIRONMENT_PREFIX))
    _refuse_unknown(ours, known | {CONFIG_VARIABLE, *CLIENT_VARIABLES}, "environment variable")


def _refuse_unknown(names: Iterable[str], known: set[str], kind: str, otherwise: str = "") -> None:
    """Refuse unknown names, each with a guess at what was meant, or with ``otherwise``.

    Raises:
        SettingsError: one line for each.
    """
    lines = []
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {close[0]}?" if close else otherwise
            lines.append(f"unknown {kind} {quoted(name)}{hint}")
    if lines:
        raise SettingsError("\n".join(lines))


_SECRETS = {"database_url", "registry_url"}


def _complaint(name: str, value: object, source: str) -> str:
    shown = "" if name in _SECRETS else f" {quoted(str(value))}"  # they may hold a password
    return f"bad value{shown} for {name.replace('_', '-')} ({source}): use {describe(name)[1]}"


def _annotation_parts(annotation: object) -> Iterator[object]:
    """Yield the types and validators inside unions and ``Annotated``."""
    yield annotation
    for part in (*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ())):
        yield from _annotation_parts(part)
