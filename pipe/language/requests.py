"""What a user asks for: the string of an SSH exec request, read into a frozen request.

`COMMANDS` lists all commands; `pipe.language.flags` reads and shows them.  A new command needs a
class and an entry.  Topic names stay as the user wrote them; `pipe.language.names` resolves them
once the caller is known.
"""

from __future__ import annotations

import enum
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pipe.errors import UsageError
from pipe.language import resume_help
from pipe.language.account_requests import ACCOUNT_COMMANDS, AboutGrants, AboutKeys
from pipe.language.chat_requests import CHAT_COMMANDS, Chat
from pipe.language.durations import SECONDS_PER_DAY, parse_duration
from pipe.language.flags import (
    HELP,
    Argument,
    Command,
    Flag,
    boolean,
    did_you_mean,
    help_of,
    help_row,
    one_of,
    read_words,
    whole_number,
)
from pipe.language.hook_requests import HOOK_COMMANDS, AboutHooks
from pipe.language.log_requests import LOG_COMMANDS, Logs
from pipe.language.monitor_requests import MONITOR_COMMANDS, MonitorRequest, spell_out
from pipe.language.names import quoted
from pipe.language.past import (
    HOLDING,
    KEEPING,
    LOOKING_BACK,
    PAST_COMMANDS,
    RESUMING,
    Last,
    Offset,
    check_keeping,
    check_looking_back,
)
from pipe.language.progress_requests import PROGRESS_COMMANDS, PROGRESS_FLAGS, Stat, Top
from pipe.language.sharing import SHARING
from pipe.language.token_requests import TOKEN_COMMANDS, AboutTokens
from pipe.language.webhook_requests import WEBHOOK_COMMANDS, AboutWebhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_COMMAND_LENGTH = 4096
"""Bytes: a name, every flag and an access list of fifty keys fit.  It bounds the parsing work."""

MAX_MIN_SUBSCRIBERS = 10_000
"""Subscribers that a publisher may wait for: more than one server holds on one topic."""

MAX_STATUS = 255
"""The highest exit status of a Unix process: its parent sees eight bits."""

DEFAULT_TIMEOUT = 30.0 * SECONDS_PER_DAY
"""Seconds that a publisher waits for its subscribers, as with pico's ``pipe``."""

SSH_PORT = 22
"""The port that ``ssh`` uses by default (RFC 4253, section 4.1)."""


class Dispatch(enum.Enum):
    """Which subscribers get a chunk."""

    MULTICAST = "multicast"
    ROUND_ROBIN = "round_robin"


class Framing(enum.Enum):
    """What is kept whole: a chunk as it came, a line, or a record that ends with NUL."""

    NONE = "none"
    LINE = "line"
    NUL = "nul"


class OnSlow(enum.Enum):
    """What happens when a reader falls behind: others wait, it loses chunks, or it is cut off."""

    BLOCK = "block"
    DROP = "drop"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class Publish:
    """``pub``: write to a topic, to a random one if none is named.

    ``timeout`` is in seconds.  ``exit_status`` is the status that subscribers exit with.
    """

    topic: str | None = None
    block: bool = True
    timeout: float = DEFAULT_TIMEOUT
    min_subscribers: int = 1
    whole: bool = False
    empty: bool = False
    public: bool = False
    access: tuple[str, ...] | None = None
    dispatch: Dispatch = Dispatch.MULTICAST
    framing: Framing = Framing.NONE
    clean: bool = False
    exit_status: int = 0
    keep: int = 0
    linger: float = 0.0
    hold: float = 0.0
    at: int | None = None
    progress: bool = False
    size: int | None = None

    def __post_init__(self) -> None:
        """Refuse flags that contradict each other."""
        dealt_out = self.dispatch is Dispatch.ROUND_ROBIN
        check_keeping(self.keep, self.linger, whole=self.whole, dealt_out=dealt_out)
        if self.whole and self.dispatch is Dispatch.ROUND_ROBIN:
            raise UsageError("with --dispatch round_robin nobody gets the whole: leave out --whole")
        if self.whole and not self.block:
            raise UsageError("--whole needs readers to wait for: leave out --block=false")


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``sub``: read from a topic, or from all topics that match a pattern."""

    topic: str
    public: bool = False
    access: tuple[str, ...] | None = None
    clean: bool = False
    keep_alive: bool = False
    whole: bool = False
    on_slow: OnSlow = OnSlow.BLOCK
    last: Last | None = None
    offset: int | None = None
    stream: str | None = None
    hold: float = 0.0
    progress: bool = False
    size: int | None = None

    def __post_init__(self) -> None:
        """Refuse flags that contradict each other."""
        check_looking_back(self.last, self.offset, self.stream, whole=self.whole)
        if self.whole and self.on_slow is OnSlow.DROP:
            raise UsageError("--on-slow drop leaves bytes out: choose that or --whole")
        if self.hold and self.on_slow is not OnSlow.BLOCK:
            raise UsageError("--hold waits for this reader: choose that or --on-slow")
        if self.hold and self.keep_alive:
            raise UsageError("--hold is for one stream, and --keep-alive for many: choose one")


@dataclass(frozen=True, slots=True)
class Pipe:
    """``pipe``: read from and write to a topic, a random one if none is named."""

    topic: str | None = None
    replay: bool = False
    public: bool = False
    access: tuple[str, ...] | None = None
    clean: bool = False
    dispatch: Dispatch = Dispatch.MULTICAST
    framing: Framing = Framing.NONE
    on_slow: OnSlow = OnSlow.BLOCK
    keep: int = 0
    linger: float = 0.0

    def __post_init__(self) -> None:
        """Refuse flags that contradict each other."""
        dealt_out = self.dispatch is Dispatch.ROUND_ROBIN
        check_keeping(self.keep, self.linger, whole=False, dealt_out=dealt_out)

    progress: bool = False
    size: int | None = None


@dataclass(frozen=True, slots=True)
class List:
    """``ls``: the topics that the caller may see, or those that match a pattern."""

    pattern: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """``whoami``: who the caller is to the server."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class Explain:
    """``explain``: what a name means, what the caller may do there and why, and who is there."""

    topic: str
    json: bool = False


@dataclass(frozen=True, slots=True)
class Help:
    """``help``: the commands, or one command's flags."""

    command: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """``version``: the version that the server runs."""


Answerable: TypeAlias = (
    List
    | WhoAmI
    | Logs
    | AboutKeys
    | AboutGrants
    | AboutTokens
    | AboutHooks
    | AboutWebhooks
    | MonitorRequest
    | Explain
    | Offset
    | Stat
    | Help
    | Version
)
"""The requests that only give an answer."""

Request: TypeAlias = Publish | Subscribe | Pipe | Chat | Top | Answerable


def _command_name(text: str) -> str:
    if text == resume_help.TOPIC:
        return text
    return _find_command(spell_out([text])).name


_JSON = Flag("json", "--json", boolean, "print JSON")
_SHARED = (
    *SHARING,
    Flag("clean", "-c --clean", boolean, "print no status text"),
    *PROGRESS_FLAGS,
)
_DISPATCH_TEXT = "multicast sends a chunk to every subscriber, round_robin to one in turn"
_FRAMING_TEXT = "what is sent whole: a line, a record that ends in NUL (nul), or none"
_WRITING = (
    Flag("dispatch", "-d --dispatch", one_of(Dispatch), _DISPATCH_TEXT, "HOW"),
    Flag("framing", "--frame", one_of(Framing), _FRAMING_TEXT, "WHAT"),
)
_ON_SLOW_TEXT = "if this reader falls behind: block the publishers, drop chunks, or disconnect"
_READING = (Flag("on_slow", "-s --on-slow", one_of(OnSlow), _ON_SLOW_TEXT, "HOW"),)

_WHOLE_TEXT = "give nobody only a part: refuse late readers, fail (74) if none is left"
_ALL_TEXT = "take the stream from its first byte, or exit with 75"

_TOPIC = Argument("topic", "TOPIC", required=True)

_COUNT = whole_number(1, MAX_MIN_SUBSCRIBERS)
_STATUS = whole_number(0, MAX_STATUS)

COMMANDS = (
    Command(
        "pub",
        Publish,
        "send stdin to every subscriber of a topic",
        "Waits for a subscriber before it reads a byte. Without a topic it makes a random one.",
        (Argument("topic", "TOPIC"),),
        (
            Flag("block", "-b --block", boolean, "wait for subscribers; -b=false sends at once"),
            Flag("timeout", "-t --timeout", parse_duration, "how long to wait for them", "DUR"),
            Flag("min_subscribers", "-m --min-subs", _COUNT, "how many to wait for", "N"),
            Flag("whole", "-w --whole", boolean, _WHOLE_TEXT),
            Flag("empty", "-e --empty", boolean, "send no bytes: only let those who wait go on"),
            Flag("exit_status", "-x --exit", _STATUS, "the exit status of every subscriber", "N"),
            *KEEPING,
            *RESUMING,
            *_SHARED,
            *_WRITING,
        ),
    ),
    Command(
        "sub",
        Subscribe,
        "write to stdout what a topic's publishers send",
        "Ends when the last publisher has ended. In a pattern, * stands for anything between two"
        " slashes and ** at the end for all that follows.",
        (Argument("topic", "TOPIC", required=True),),
        (
            Flag("keep_alive", "-k --keep-alive", boolean, "stay for the next publisher"),
            Flag("whole", "-w --whole", boolean, _ALL_TEXT),
            *LOOKING_BACK,
            HOLDING,
            *_READING,
            *_SHARED,
        ),
    ),
    Command(
        "pipe",
        Pipe,
        "read and write a topic at once",
        "Never waits. Without a topic it makes a random one.",
        (Argument("topic", "TOPIC"),),
        (
            Flag("replay", "-r --replay", boolean, "also get back what this pipe writes"),
            *KEEPING,
            *_READING,
            *_SHARED,
            *_WRITING,
        ),
    ),
    *CHAT_COMMANDS,
    Command(
        "ls",
        List,
        "list the topics that you may see",
        "Shows their members, their rates, who waits and who holds the others up.",
        (Argument("pattern", "PATTERN"),),
        (_JSON,),
    ),
    Command("whoami", WhoAmI, "show your user, key, address and limits", flags=(_JSON,)),
    *ACCOUNT_COMMANDS,
    *TOKEN_COMMANDS,
    *HOOK_COMMANDS,
    *LOG_COMMANDS,
    *WEBHOOK_COMMANDS,
    *MONITOR_COMMANDS,
    Command(
        "explain",
        Explain,
        "show what you may do with a topic, and why",
        "Shows the name in full, who is there and, if the topic is yours, who holds it up.",
        (_TOPIC,),
        (_JSON,),
    ),
    *PAST_COMMANDS,
    *PROGRESS_COMMANDS,
    Command("version", Version, "show the server's version"),
    Command(
        "help",
        Help,
        "show this list, or one command's flags",
        "'help resume' prints functions for a shell that resume transfers.",
        arguments=(Argument("command", "COMMAND", convert=_command_name),),
    ),
)
"""Every command, in the order that help lists them."""

NAMES = {command.request: command.name for command in COMMANDS}
"""What users call the command that makes a request."""


def parse(command: str) -> Request:
    """Read the command of an exec request.

    Args:
        command: The string as it came; an empty one asks for help.

    Raises:
        UsageError: With one line that says what is wrong and what is allowed.
    """
    words = spell_out(_split(command))
    if not words or words[0] in HELP.spellings.split():
        return Help()
    spec = _find_command(words)
    values = read_words(spec, words[len(spec.name.split()) :])
    if values is None:
        return Help(spec.name)
    build: Callable[..., Request] = spec.request
    return build(**values)


def sends_stream(request: Request) -> bool:
    """Return whether the request reads a stream from stdin, so that every byte counts.

    A chat does, as it reads a terminal's keys itself.
    """
    return isinstance(request, (Pipe, Chat)) or (isinstance(request, Publish) and not request.empty)


def ssh_command(host: str, port: int, user: str = "") -> str:
    """Write how a client reaches a server: ``ssh -p 2222 alice@example.org``.

    Without a user anyone can run it: `ssh` fills in the reader's own name.
    """
    target = f"{user}@{host}" if user else host
    return f"ssh {target}" if port == SSH_PORT else f"ssh -p {port} {target}"


def help_text(command: str | None, ssh: str) -> str:
    """Write the list of commands, or the help of one.

    Args:
        command: which one, or None for all.
        ssh: how to reach the server, from `ssh_command`.

    Returns:
        Lines that end with LF, wrapped to `HELP_WIDTH`.

    Raises:
        UsageError: There is no such command.
    """
    if command is None:
        lines = _overview(ssh)
    elif command == resume_help.TOPIC:
        return resume_help.resume_help(ssh)
    else:
        parts = (spec for spec in COMMANDS if spec.name.startswith(f"{command} "))
        lines = help_of(_find_command(command.split()), ssh, parts)
    return "".join(f"{line}\n" for line in lines)


def _split(command: str) -> list[str]:
    length = len(command.encode("utf-8", "surrogatepass"))
    if length > MAX_COMMAND_LENGTH:
        raise UsageError(
            f"the command has {length} bytes: at most {MAX_COMMAND_LENGTH} are allowed"
        )
    try:
        return shlex.split(command)
    except ValueError as error:
        reason = str(error).lower()
        raise UsageError(f"the command cannot be split into words: {reason}") from None


def _find_command(words: Sequence[str]) -> Command:
    """Find the command that the words begin with; its name may have two words."""
    name, *further = words[:2]
    parts = [spec.name for spec in COMMANDS if spec.name.startswith(f"{name} ")]
    if parts and further and not further[0].startswith("-"):
        name = f"{name} {further[0]}"
    for spec in COMMANDS:
        if spec.name == name:
            return spec
    if parts:  # don't suggest one: it may be the one that removes
        raise UsageError(
            f"unknown command {quoted(name)}: there are {', '.join((words[0], *parts))}; "
            f"'ssh HOST {words[0]} -h' says more"
        )
    hint = did_you_mean(name, (spec.name for spec in COMMANDS))
    raise UsageError(f"unknown command {quoted(name)}{hint} 'ssh HOST help' lists the commands")


def _overview(ssh: str) -> Iterator[str]:
    yield f"usage: {ssh} COMMAND [FLAGS] [TOPIC]"
    yield ""
    yield "commands:"
    for spec in COMMANDS:
        yield from help_row(spec.usage, spec.summary)
    yield ""
    yield "examples:"
    yield f"  echo hello | {ssh} pub greetings"
    yield f"  {ssh} sub greetings"
    yield f"  tar c folder | {ssh} pub -t 10m backup"
    yield ""
    yield f"'{ssh} help COMMAND' shows a command's flags, and"
    yield f"'{ssh} help resume' how to go on after a lost connection."
