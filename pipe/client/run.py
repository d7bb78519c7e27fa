"""One command against a server: its stdin, stdout, stderr and status are those of ``ssh HOST``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, cast

from pipe.client import terminal
from pipe.client.lines import NOTHING_KEPT
from pipe.client.server import connect
from pipe.client.stdio import Input, Output, StdioFailed, tell
from pipe.client.terminal import Patience
from pipe.errors import UsageError
from pipe.language.account_requests import AddKey
from pipe.language.chat_requests import Chat
from pipe.language.requests import List, Pipe, Publish, Subscribe
from pipe.library.ends import Interrupted
from pipe.session.midstream import what_was_sent

if TYPE_CHECKING:
    from pipe.client.server import Server
    from pipe.client.terminal import Drawn
    from pipe.language.requests import Request
    from pipe.library.ends import End
    from pipe.library.streams import Link

STREAMS = (Publish, Subscribe, Pipe)

OURS = (Interrupted, StdioFailed)
"""What ends an exchange from our side; of all else the server says how it has ended."""


def run(request: Request, command: str, url: str, token: str | None, *, reconnect: bool) -> int:
    """Run a command, and return its exit status.

    Args:
        request: what it is.
        command: the same as a command line.
        url: of the server.
        token: for HTTP.
        reconnect: whether its stream goes on after a lost connection.

    Raises:
        PipeError: it cannot be run, or the server is reached by HTTP and refused it.
    """
    return asyncio.run(_run(request, command, url, token, reconnect=reconnect))


async def _run(
    request: Request, command: str, url: str, token: str | None, *, reconnect: bool
) -> int:
    by_ssh = url.startswith("ssh:")
    server = connect(
        url,
        token=token,
        reconnect=reconnect,
        on_status=None if by_ssh and not reconnect else _tell_status,
        on_stderr=tell if by_ssh and not reconnect else None,
    )
    drawn = by_ssh and terminal.is_drawn(request)
    async with server:
        if isinstance(request, STREAMS):
            link = await server.open(request)
        elif by_ssh:
            link = await server.run(command, **(terminal.wishes() if drawn else {}))
        else:
            return await _list(server, request)
        try:
            screen = terminal.raw(cast("Drawn", link)) if drawn else contextlib.nullcontext()
            with screen:
                end = await _Exchange(link, request, drawn=drawn).run()
        finally:
            await link.abort()
    if not by_ssh and not getattr(request, "clean", False) and end.receipt:
        tell(f"pipe: {what_was_sent(end.receipt, None)}\n".encode())
    if end.lost or reconnect or not by_ssh:
        end.check()  # over SSH, the server has said why
    return end.status


def _tell_status(line: str) -> None:
    if line.startswith(NOTHING_KEPT) and " " not in line.removeprefix(NOTHING_KEPT):
        line += ": its publisher would need --keep for a reader to go on without a hole"
    tell(f"pipe: {line}\n".encode())


async def _list(server: Server, request: Request) -> int:
    if not isinstance(request, List) or not request.json:
        raise UsageError("over HTTP there are pub, sub, pipe and ls --json: write ssh://USER@HOST")
    rows: list[dict[str, Any]] = await server.rows(request)
    await Output().write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
    return 0


class _Exchange:
    """What flows between our stdin and stdout and a server."""

    def __init__(self, link: Link, request: Request, *, drawn: bool) -> None:
        self._link = link
        self._writes = drawn or isinstance(request, (Publish, Pipe, Chat, AddKey))
        self._patience = Patience() if drawn else None
        self._empty = isinstance(request, Publish) and request.empty

    async def run(self) -> End:
        """Let it flow until the session ends, or our stdout is gone."""
        sender = asyncio.create_task(self._send())
        receiver = asyncio.create_task(self._receive())
        ending = asyncio.create_task(self._link.wait_end())
        tasks = {sender, receiver, ending}
        try:
            while not ending.done():
                done, _ = await asyncio.wait(
                    {task for task in tasks if not task.done()}, return_when="FIRST_COMPLETED"
                )
                for task in done:
                    if task is receiver or isinstance(task.exception(), OURS):
                        task.result()  # a stdout that is gone, or somebody who waits no more
            await receiver
            return ending.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        stdin = Input() if self._writes and not self._empty else None
        while stdin and (data := await stdin.read()):
            if self._patience and self._patience.pressed(data):
                raise Interrupted("the server does not answer")
            await self._link.send(data)
        await self._link.send_eof()

    async def _receive(self) -> None:
        stdout = Output()
        while data := await self._link.receive():
            if self._patience:
                self._patience.answered()
            await stdout.write(data)
