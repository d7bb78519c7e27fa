"""The command: sends what it reads on stdin, or what Docker's containers write."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from ._docker import DEFAULT_SOCKET, follow_containers
from ._handler import make_sender
from ._lines import LINE_LIMIT
from ._sender import BUFFER_LIMIT
from ._texts import Lines, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._sender import Sender

WHERE: Final = "PIPE_LOG_URL"
TOKEN: Final = "PIPE_LOG_TOKEN"  # noqa: S105 - the name of a variable

DROPPED: Final = 1
"""The status if lines were dropped."""

LAST_SECONDS: Final = 10.0
"""What the last lines of an input may take; after a signal it is less."""

EPILOG: Final = f"""
The variables {WHERE} and {TOKEN} give the server and the token. A line that is a JSON object is
sent as it is, with the service and the fields added; any other is the msg of one. While the server
takes none, 4 MiB of lines wait, and what is more is dropped; the status is 1 if any was. Docker
keeps lines itself: what its containers write waits there.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipe_log", description=__doc__, epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument(
        "where",
        nargs="?",
        default=os.environ.get(WHERE),
        help="https://pipe.example.org, or 'ssh:HOST TOPIC'",
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="has the token")
    parser.add_argument("--service", metavar="NAME", help="of lines that give none")
    parser.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of every line, whatever it says itself; may be repeated",
    )
    parser.add_argument(
        "--docker",
        action="store_true",
        help="send what containers write that have the label pipe.logs=true",
    )
    parser.add_argument(
        "--docker-socket",
        default=os.environ.get("DOCKER_HOST", DEFAULT_SOCKET),
        metavar="PATH",
        help=f"where Docker listens; {DEFAULT_SOCKET} unless DOCKER_HOST says otherwise",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.where:
        parser.error(f"say where the lines go: an argument, or the variable {WHERE}")
    fields = {}
    for field in options.field:
        name, equals, value = field.partition("=")
        if not (name and equals):
            parser.error(f"--field {field!r} is not NAME=VALUE")
        fields[name] = value
    socket = options.docker_socket.removeprefix("unix://") if options.docker else ""
    if "://" in socket:
        parser.error(f"{socket!r} is no socket of this machine: give its path")
    try:
        token = options.token_file.read_text().strip() if options.token_file else None
        if token is None and not options.where.startswith("ssh:"):
            token = os.environ.get(TOKEN)
        sender = make_sender(options.where, token)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    source = Source(options.service, fields)
    with contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, _interrupt)
        if options.docker:
            follow_containers(socket, sender, source)
        else:
            _send_input(sys.stdin.fileno(), sender, source)
            sender.close(LAST_SECONDS)
    sender.close()
    return DROPPED if sender.dropped else 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _send_input(stdin: int, sender: Sender, source: Source) -> None:
    """Send all lines of a stream, and wait until they have arrived or the server takes none."""
    lines = Lines()
    while data := os.read(stdin, LINE_LIMIT):
        for text in lines.feed(data):
            sender.put(source.line(text))
        sender.wait_room(BUFFER_LIMIT // 2)
    for text in lines.end():
        sender.put(source.line(text))
    sender.wait_room(0)


if __name__ == "__main__":
    sys.exit(main())
