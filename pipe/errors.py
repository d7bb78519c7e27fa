"""What can go wrong, and what each end of a session means.

    PipeError                 knows its Outcome and carries one sentence for the user
    ├── UsageError            a command, flag or name that cannot be understood      64
    │   └── BadName           a user name, topic or pattern outside the grammar      64
    ├── AccessDenied          the caller has no right to the topic                   77
    │   └── TokenRefused      a token, link or code that lets nobody in              77
    ├── TooLate               a reader came too late to get the whole stream         75
    ├── NobodyLeft            a publisher's last reader left, and no other may come  74
    ├── QuotaExceeded         the caller has as much of something as anybody may     75
    ├── SettingsError         a setting that cannot be used: the start stops         64
    ├── StoreError            an account command that cannot be carried out          64
    │   ├── KeyTaken          a key that belongs to another user                     64
    │   └── StoreUnavailable  the database cannot be reached or read                 69
    ├── Undelivered           a test of a webhook that has not arrived               74
    ├── Unreachable           another worker or machine cannot be reached            69
    ├── WebOff                a web page is asked for where there is none            69
    ├── NotMoved              a connection that another process cannot take over     69
    └── StartError            a port, folder or file that the server cannot use      69

Every session ends with exactly one `Outcome`.  It determines the exit status that the client sees,
the ``outcome`` field of the log line and the ``outcome`` label of the metric.  Statuses follow
``sysexits.h`` if it has a fitting one.

Every connection ends with exactly one `Ending`, which in the same way determines its log line, its
metric and the outcome of its sessions.
"""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """Why a session ended.

    ``label`` is the log field and metric label.  ``status`` is the exit status that the client gets
    (a subscriber whose publisher said ``--exit N`` gets N instead of 0).  ``text`` is the line for
    stderr, empty if the user already knows.
    """

    DONE = ("done", 0, "")
    LEFT = ("left", 141, "")
    """The client left by itself.  One whose stdout is gone (``| head``) still sees a status: 141 is
    what shells report for SIGPIPE, as for any other program before a ``head``."""
    INTERRUPTED = ("interrupted", 130, "")
    """The user pressed Ctrl-C at a terminal that we control, or the client sent a signal: 130 is
    what shells report for SIGINT."""
    USAGE = ("usage", 64, "")
    UNAVAILABLE = ("unavailable", 69, "")
    SHUTDOWN = ("shutdown", 69, "the server is shutting down")
    FAILED = ("failed", 70, "something went wrong in the server; its log says what")
    BROKEN = ("broken", 74, "the stream broke: a publisher vanished before its end of file")
    UNDELIVERED = ("undelivered", 74, "nobody has confirmed the last byte: all readers left early")
    STALLED = ("stalled", 74, "cut off: this reader took nothing while others waited for it")
    SLOW = ("slow", 74, "cut off: this reader fell behind and asked for --on-slow disconnect")
    TIMEOUT = ("timeout", 75, "")
    DROPPED = ("dropped", 75, "")
    DENIED = ("denied", 77, "")
    LATE = ("late", 75, "")
    """A reader came in mid-stream, and it or the publisher insists on the whole stream."""
    LIMITED = ("limited", 75, "")
    """A quota is used up; trying again later may work."""
    CUT = ("cut", 74, "the connection was cut off")
    """The server ended the connection; the connection's log line says why."""
    MOVED = ("moved", 0, "")
    """It goes on in another process, which will tell the client how it ends: here it counts and is
    logged nowhere."""

    def __init__(self, label: str, status: int, text: str) -> None:
        self.label = label
        self.status = status
        self.text = text


class Ending(enum.Enum):
    """Why a connection ended.

    ``label`` is the log field and metric label, ``outcome`` that of its sessions if they had none
    of their own yet.
    """

    CLIENT = ("client", Outcome.LEFT)
    """The client disconnected in order."""
    LOST = ("lost", Outcome.LEFT)
    """TCP ended it: the client closed or was killed, or the network broke."""
    PROBE = ("probe", Outcome.LEFT)
    """The same before the client sent more than its SSH version: a health check."""
    PROTOCOL = ("protocol", Outcome.CUT)
    """The client broke the rules of SSH, or says that we did."""
    TRIES = ("tries", Outcome.CUT)
    LOGIN_TIMEOUT = ("login-timeout", Outcome.CUT)
    EVICTED = ("evicted", Outcome.CUT)
    """There were too many connections without a login, and its address had the most."""
    QUOTA = ("quota", Outcome.LIMITED)
    IDLE = ("idle", Outcome.CUT)
    DEAD = ("dead", Outcome.CUT)
    """It answered no keepalive."""
    REKEY = ("rekey", Outcome.CUT)
    """It did not finish a key exchange."""
    OVERFLOW = ("overflow", Outcome.CUT)
    """It asked for more answers than it read."""
    UNREAD = ("unread", Outcome.CUT)
    """It asked for answers and read nothing for too long."""
    STUCK = ("stuck", Outcome.CUT)
    """It did not close the channel of a session that was cut."""
    SHUTDOWN = ("shutdown", Outcome.SHUTDOWN)
    UNAVAILABLE = ("unavailable", Outcome.UNAVAILABLE)
    """The accounts database did not answer, so nobody could log in."""
    FAILED = ("failed", Outcome.FAILED)
    """A fault in the server; its log has the traceback."""
    MOVED = ("moved", Outcome.MOVED)
    """Another process of the service has it now; its client noticed nothing."""

    def __init__(self, label: str, outcome: Outcome) -> None:
        self.label = label
        self.outcome = outcome


class PipeError(Exception):
    """The base class: ends a session or command, with a message for the user."""

    outcome = Outcome.FAILED

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def exit_status(self) -> int:
        """What a command that ends with it exits with."""
        return self.outcome.status


class UsageError(PipeError):
    """A command, flag or value that cannot be understood; the message says how to fix it."""

    outcome = Outcome.USAGE


class BadName(UsageError):
    """A user name, topic or pattern outside the grammar of `pipe.language.names`."""


class AccessDenied(PipeError):
    """The caller has no right to the topic, whether it exists or not."""

    outcome = Outcome.DENIED


class TooLate(PipeError):
    """The stream has begun, and a reader that joins now would not get all of it."""

    outcome = Outcome.LATE


class NobodyLeft(PipeError):
    """A publisher's last reader left in mid-stream, and nobody else may have the rest."""

    outcome = Outcome.BROKEN


class Refusal(enum.Enum):
    """Why a token lets nobody in."""

    UNKNOWN = "unknown"
    """There is none, or so its bearer is told."""
    EXPIRED = "expired"
    USED_UP = "used-up"


class TokenRefused(AccessDenied):
    """A token, cookie, link or code that lets nobody in; ``reason`` says why."""

    def __init__(self, message: str, reason: Refusal) -> None:
        super().__init__(f"access denied: {message}")
        self.reason = reason


class QuotaExceeded(PipeError):
    """The caller has as much of something as allowed; ``resource`` names what."""

    outcome = Outcome.LIMITED

    def __init__(self, message: str, resource: str) -> None:
        super().__init__(message)
        self.resource = resource


class SettingsError(PipeError):
    """A setting that cannot be used: the message names it, its value and what is allowed."""

    outcome = Outcome.USAGE


class StoreError(PipeError):
    """An account command that cannot be carried out: no such user, a key that already exists."""

    outcome = Outcome.USAGE


class KeyTaken(StoreError):
    """A key that belongs to others; only an operator may be told that they are ``users``."""

    def __init__(self, fingerprint: str, users: tuple[str, ...] = ()) -> None:
        super().__init__(f"key {fingerprint} belongs to another user")
        self.fingerprint = fingerprint
        self.users = users


class StoreUnavailable(StoreError):
    """The database cannot be reached, read or migrated."""

    outcome = Outcome.UNAVAILABLE


class Undelivered(PipeError):
    """A test of a webhook has not arrived."""

    outcome = Outcome.UNDELIVERED


class WebOff(PipeError):
    """A command needs a web page, and the server has none."""

    outcome = Outcome.UNAVAILABLE


class Unreachable(PipeError):
    """Another worker or machine cannot be reached, or does not want to be."""

    outcome = Outcome.UNAVAILABLE


class NotMoved(PipeError):
    """A connection that cannot be handed to another process, or not be taken over here."""

    outcome = Outcome.UNAVAILABLE


class StartError(PipeError):
    """A port, folder or file that the server needs and cannot use."""

    outcome = Outcome.UNAVAILABLE
