"""The limits: settings that protect the server and its users from each other.

`pipe.settings.Settings` extends these.  docs/reliability.md says what each one bounds, and which
test covers it.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipe.language.quantities import GIB, HOUR, MIB, ShortDuration, count, duration, size

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NO_NETWORKS = "none"
"""How to write an empty list of networks, as an empty variable counts as not set."""

UNLIMITED = " (0: no limit)"


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks separated by commas, or ``none``.

    Raises:
        ValueError: one of them is not a network.
    """
    if text == NO_NETWORKS:
        return ()
    return tuple(ipaddress.ip_network(word.strip()) for word in text.split(","))


def check_networks(text: str) -> str:
    """Accept what `parse_networks` reads.

    Raises:
        ValueError: `parse_networks` rejects the text.
    """
    parse_networks(text)
    return text


def join_networks(value: object) -> object:
    """Join a TOML list of strings into one string; leave other values as they are."""
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        return value
    return ",".join(value) or NO_NETWORKS


Networks = Annotated[str, BeforeValidator(join_networks), AfterValidator(check_networks)]
Quota = Annotated[int, count(0, 1_000_000, UNLIMITED)]


class Limits(BaseModel):
    """The limits, frozen: durations in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # -- before the login -------------------------------------------------------------------------

    trusted_sources: Networks = Field(
        default="127.0.0.0/8,::1",
        description="addresses exempt from the limits per address and from penalties: this machine,"
        " and a balancer behind which everybody has one address",
    )
    login_timeout: ShortDuration = Field(
        default=20.0, description="time to log in; connections that never do must not pile up"
    )
    max_auth_tries: Annotated[int, count(1, 100)] = Field(
        default=6,
        description="failed tries to log in that close the connection, as sshd's MaxAuthTries",
    )
    max_unauthenticated: Annotated[int, count(1, 100_000)] = Field(
        default=100,
        description="connections at once that have not logged in, as sshd's MaxStartups",
    )
    max_unauthenticated_per_address: Annotated[int, count(1, 100_000)] = Field(
        default=10,
        description="the same from one address or IPv6 /64, so that no single one can fill it",
    )
    penalty_refused: Annotated[float, duration(0, HOUR)] = Field(
        default=5.0,
        description="how long an address is refused for a login that failed, as sshd's"
        " PerSourcePenalties; penalties add up",
    )
    penalty_no_login: Annotated[float, duration(0, HOUR)] = Field(
        default=1.0, description="the same for a connection that never tried to log in"
    )
    penalty_timeout: Annotated[float, duration(0, HOUR)] = Field(
        default=10.0, description="the same for one that used up the time to log in"
    )
    penalty_min: Annotated[float, duration(0, HOUR)] = Field(
        default=15.0, description="penalties below this in sum are forgiven: everybody mistypes"
    )
    penalty_max: Annotated[float, duration(0, HOUR)] = Field(
        default=600.0, description="the most that they add up to, as addresses change hands"
    )
    claims_per_day: Annotated[int, count(0, 1_000_000)] = Field(
        default=3,
        description="names that one address may claim in a day, so that nobody hoards them",
    )

    # -- a connection -----------------------------------------------------------------------------

    max_sessions_per_connection: Annotated[int, count(1, 1000)] = Field(
        default=10, description="channels open at once on one connection, as sshd's MaxSessions"
    )
    keepalive_interval: Annotated[float, duration(1, HOUR)] = Field(
        default=30.0, description="silence after which a client is asked whether it still lives"
    )
    keepalive_count: Annotated[int, count(1, 100)] = Field(
        default=3, description="questions without an answer after which a client counts as dead"
    )
    idle_timeout: Annotated[float, duration(0.1, 24 * HOUR)] = Field(
        default=60.0, description="how long a connection may stay without a channel"
    )
    rekey_timeout: ShortDuration = Field(
        default=30.0,
        description="time for a rekey to finish; what is sent meanwhile has to wait in memory",
    )
    max_unsent: Annotated[int, size(2 * MIB, GIB)] = Field(
        default=8 * MIB,
        description="unsent bytes at which a connection is cut; streams stop at 1MiB, so these are"
        " answers that the client asks for and does not read",
    )
    unread_timeout: ShortDuration = Field(
        default=30.0, description="how long such answers may wait without a byte being read"
    )

    # -- a user, an address -----------------------------------------------------------------------

    max_connections_per_user: Quota = Field(
        default=2000, description="connections of one user; a connection takes some 50 KiB"
    )
    max_connections_per_address: Quota = Field(
        default=2000, description="connections from one address or IPv6 /64, logged in or not"
    )
    max_sessions_per_user: Quota = Field(default=5000, description="channels of one user")
    max_sessions_per_address: Quota = Field(default=5000, description="channels from one address")
    max_topics_per_user: Quota = Field(
        default=2000, description="live topics that one user has opened"
    )
    max_topics_per_address: Quota = Field(
        default=2000, description="live topics opened from one address"
    )
    max_patterns_per_user: Quota = Field(
        default=100,
        description="readers on patterns of one user; each takes a look at every topic as it comes"
        " and as it goes, and so does every topic at each of them",
    )
    max_rate_per_user: Annotated[int, size(0, 64 * GIB)] = Field(
        default=0,
        description="bytes per second that one user may publish (0: no limit); faster writers are"
        " slowed, and lose nothing",
    )
    max_keep: Annotated[int, size(0, GIB)] = Field(
        default=16 * MIB,
        description="bytes of its past that one topic may keep for late readers (0: none)",
    )
    max_keep_per_user: Annotated[int, size(0, 64 * GIB)] = Field(
        default=64 * MIB,
        description="bytes of their past that all topics of one user may keep (0: no limit)",
    )

    # -- the server -------------------------------------------------------------------------------

    memory_alarm: Annotated[int, size(16 * MIB, 1 << 50)] | None = Field(
        default=None,
        description="resident memory at which all writers are paused until readers have caught up;"
        " default: 60% of what the control group or the machine has",
    )
    log_rate: Annotated[int, count(0, 1_000_000, UNLIMITED)] = Field(
        default=20,
        description="log lines of one kind per second, so that a flood cannot fill the disk",
    )
