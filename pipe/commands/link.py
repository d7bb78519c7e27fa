"""``link``: an address where others read or write one topic without an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.layout import count, date
from pipe.commands.login import web_url
from pipe.errors import AccessDenied, UsageError
from pipe.language.names import PUBLIC, parse_topic
from pipe.rights.scopes import Reach, Scope
from pipe.store import TokenKind
from pipe.store.admission import make_secret, make_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.commands.asker import Asker
    from pipe.language.token_requests import MakeLink
    from pipe.service import Service

_HALVES = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
"""Two light or dark squares, one above the other.  Light ones are drawn, as terminals are dark."""


async def make_link(service: Service, asker: Asker, request: MakeLink) -> str:
    """Make a link, and answer with its address, and its QR code below it if wanted.

    Raises:
        WebOff: there are no web pages.
        AccessDenied: the topic belongs to another user, or the caller may not make links.
        UsageError: the topic is public, and users with an account need no link.
        StoreError: the caller has too many.
    """
    caller = asker.caller
    topic = parse_topic(request.topic, caller=caller.user)
    if topic.owner == PUBLIC:
        raise UsageError(f"{topic} is every user's, and nobody's to give to others")
    if topic.owner != caller.user:
        raise AccessDenied(f"access denied: only {topic.owner} can make a link to {topic}")
    url = web_url(service)
    reach = Reach(frozenset({topic}))
    secret = make_secret(TokenKind.LINK)
    link = make_token(
        caller,
        secret,
        TokenKind.LINK,
        request.duration,
        scope=Scope(writes=reach) if request.write else Scope(reads=reach),
        uses=request.uses,
    )
    await service.guard.add_token(caller, link)
    verb = "write" if request.write else "read"
    asker.session.announce(
        f"whoever has it may {verb} {topic}, {count(request.uses, 'time')}, until "
        f"{date(link.until, '')}; 'tokens rm {link.id}' ends it sooner"
    )
    address = f"{url}/l/{secret.text}"
    return "".join(f"{line}\n" for line in (address, *(_picture(address) if request.qr else ())))


def _picture(text: str) -> Iterator[str]:
    """Draw a QR code with characters, two rows of squares per line."""
    import segno  # it takes 10 MiB of memory and is rarely needed

    rows = [
        [not dark for dark in row] for row in segno.make_qr(text, error="m").matrix_iter(border=2)
    ]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        yield "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True))
