"""What a stream's end means to a program: the result of a writer, or one exception of a few.

PipeError           the base of all; ``exit_status`` is what the command would exit with
├── UsageError      a name or option that cannot be used                              64
├── Unavailable     the server is shutting down, or cannot reach its accounts         69
├── ServerFailed    something went wrong in the server                                70
├── Broken          a publisher vanished, or no reader is left for a whole stream     74
├── CutOff          this reader fell behind, or its connection was cut off            74
├── Undelivered     there were readers, and none has confirmed the last byte          74
├── TimedOut        nobody came in time                                               75
├── Dropped         bytes were left out, as this reader had asked for                 75
├── TooLate         the stream has begun, or the byte is not kept                     75
├── Limited         a quota is used up                                                75
├── AccessDenied    no right to the topic, or not any more                            77
├── Interrupted     somebody ended the session                                  130, 141
├── ConnectionLost  the connection to the server is gone, or there was none          255
│   └── LoginRefused  it does not let us in, or is not the one that is known         255
└── PublisherFailed the publisher ended with a status of its own (``exit_status=``)    N
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pipe.errors import AccessDenied, Outcome, PipeError, TooLate, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.stream.ports import Receipt

CONNECTION_LOST = 255
"""What `ssh` exits with when it has no connection."""


class Unavailable(PipeError):
    """The server is shutting down, cannot reach its accounts, or has no HTTP."""

    outcome = Outcome.UNAVAILABLE


class ServerFailed(PipeError):
    """Something went wrong in the server; its log says what."""

    outcome = Outcome.FAILED


class Broken(PipeError):
    """The stream broke: what was read is not all of it."""

    outcome = Outcome.BROKEN


class CutOff(PipeError):
    """This reader was cut off, as it fell behind, or its whole connection was."""

    outcome = Outcome.STALLED


class Undelivered(PipeError):
    """There were readers, and all of them left before they had confirmed the last byte.

    Attributes:
        receipt: What became of the stream, if that is known.
    """

    outcome = Outcome.UNDELIVERED

    def __init__(self, message: str, receipt: Receipt | None = None) -> None:
        super().__init__(message)
        self.receipt = receipt


class TimedOut(PipeError):
    """Too few readers came in time."""

    outcome = Outcome.TIMEOUT


class Dropped(PipeError):
    """The stream is over, and this reader has not had all of it, as it was too slow."""

    outcome = Outcome.DROPPED


class Limited(PipeError):
    """As much of something as anybody may have is in use; trying again later may work."""

    outcome = Outcome.LIMITED


class Interrupted(PipeError):
    """The session was ended by a signal, or by another session that goes on with its stream."""

    outcome = Outcome.INTERRUPTED


class ConnectionLost(PipeError):
    """The connection to the server is gone, or there never was one."""

    outcome = Outcome.UNAVAILABLE

    @property
    def exit_status(self) -> int:
        """255, as of `ssh`."""
        return CONNECTION_LOST


class LoginRefused(ConnectionLost):
    """The server lets nobody in with this key or token, or is not the one that is known."""


class PublisherFailed(PipeError):
    """The stream came to its end, and its publisher says that something is wrong.

    Attributes:
        exit_status: The status that the publisher gave.
    """

    outcome = Outcome.DONE

    def __init__(self, status: int) -> None:
        super().__init__(f"the publisher ended with status {status}")
        self._status = status

    @property
    def exit_status(self) -> int:
        """The status that the publisher gave."""
        return self._status


_ERRORS: dict[Outcome, type[PipeError]] = {
    Outcome.USAGE: UsageError,
    Outcome.UNAVAILABLE: Unavailable,
    Outcome.SHUTDOWN: Unavailable,
    Outcome.FAILED: ServerFailed,
    Outcome.BROKEN: Broken,
    Outcome.STALLED: CutOff,
    Outcome.SLOW: CutOff,
    Outcome.CUT: CutOff,
    Outcome.TIMEOUT: TimedOut,
    Outcome.DROPPED: Dropped,
    Outcome.LATE: TooLate,
    Outcome.LIMITED: Limited,
    Outcome.DENIED: AccessDenied,
    Outcome.INTERRUPTED: Interrupted,
    Outcome.LEFT: Interrupted,
}


class End(NamedTuple):
    """How a stream or a command ended, for whoever asked for it.

    ``text`` is what the user is told, if there is more to say than the outcome; ``lost`` says that
    it is the connection that ended, and nobody knows about the stream.
    """

    outcome: Outcome
    status: int = 0
    text: str = ""
    receipt: Receipt | None = None
    lost: bool = False

    @property
    def whole(self) -> bool:
        """Whether the command would exit with 0."""
        return self.status == 0

    @property
    def message(self) -> str:
        """One line for whoever asked."""
        if self.outcome is Outcome.DONE and self.status:
            return f"the publisher ended with status {self.status}"
        return self.text or self.outcome.text or self.outcome.label

    def check(self) -> None:
        """Do nothing if all is well.

        Raises:
            PipeError: as the table above has it.
        """
        if error := self.error():
            raise error

    def error(self) -> PipeError | None:
        """Return the exception, if it is one, with just this outcome."""
        if self.lost:
            return ConnectionLost(self.message)
        if self.outcome is Outcome.DONE:
            return PublisherFailed(self.status) if self.status else None
        if self.outcome is Outcome.UNDELIVERED:
            return Undelivered(self.message, self.receipt)
        error = _ERRORS[self.outcome](self.message)
        error.outcome = self.outcome
        return error

    def as_json(self) -> dict[str, object]:
        """The same for programs, as HTTP tells it."""
        return {
            "outcome": self.outcome.label,
            "status": self.status,
            "message": self.message,
        }


def end_of(outcome: Outcome, text: str = "", receipt: Receipt | None = None) -> End:
    """Return the end that has an outcome's own status."""
    return End(outcome, outcome.status, text, receipt)


def end_by(error: PipeError) -> End:
    """Return the end that an error stands for."""
    lost = isinstance(error, ConnectionLost)
    return End(error.outcome, error.exit_status, error.message, lost=lost)


def end_from_json(said: Mapping[str, Any]) -> End:
    """Return the end that a server has told, which may be of a later version.

    Raises:
        KeyError, TypeError, ValueError: that was none.
    """
    outcome = next((one for one in Outcome if one.label == said["outcome"]), Outcome.FAILED)
    return End(outcome, int(said["status"]), str(said["message"]))


def receipt_as_json(receipt: Receipt) -> dict[str, int]:
    """Return a receipt for programs, as HTTP tells it."""
    return {
        "bytes": receipt.sent_bytes,
        "subscribers": receipt.subscribers,
        "left_early": receipt.left_early,
    }
