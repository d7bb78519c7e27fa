"""How to join the topic that a `pub` or `pipe` is on: commands to paste.

The user's own command includes their name, which may differ on their other machines.  The command
for others must not include it, and appears only if others may join.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.layout import short_name
from pipe.language.chat_requests import Chat
from pipe.language.requests import NAMES, Publish
from pipe.rights.grants import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.language.names import TopicName
    from pipe.language.requests import Pipe
    from pipe.rights.access import Access
    from pipe.rights.callers import Caller
    from pipe.service import Service


def invitations(
    service: Service, caller: Caller, request: Publish | Pipe | Chat, topic: TopicName
) -> Iterator[str]:
    """Yield a line for the caller and one for others, each only if it helps somebody."""
    verb, command, needs = (
        ("subscribe", "sub", Operation.READ)
        if isinstance(request, Publish)
        else ("join", NAMES[type(request)], Operation.BOTH)
    )

    def in_terminal(ssh: str) -> str:
        return ssh.replace("ssh", "ssh -t", 1) if isinstance(request, Chat) else ssh

    if service.access.decide(caller, topic, needs).allowed:
        name = short_name(topic, caller)
        yield f"{verb} with: {in_terminal(service.ssh_command(caller.user))} {command} {name}"
    if topic.owner != caller.user or _is_shared(service.access, topic, needs):
        yield f"others {verb} with: {in_terminal(service.ssh_command())} {command} {topic}"


def _is_shared(access: Access, topic: TopicName, needs: Operation) -> bool:
    """Whether the topic's owner lets anybody else do this."""
    grants = access.grants_on(topic).values()
    return any(needs in grant.operation for grant in grants) or bool(
        access.shared_by_sessions(topic)
    )
