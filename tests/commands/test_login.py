"""``login``: an address on stdout alone, that logs in once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.commands import answer
from pipe.commands.asker import Asker
from pipe.errors import AccessDenied, Outcome, TokenRefused, WebOff
from pipe.language.token_requests import LogIn, MakeLink
from pipe.service import Service
from pipe.settings import Settings
from tests.sessions import Session

if TYPE_CHECKING:
    from tests.sessions import People


async def test_address_alone(people: People) -> None:
    """What is on stdout can be given to a browser as it is, and the code in it is good once."""
    text = await people.run("alice", "login")
    url, code = text.removesuffix("\n").rsplit("/", 1)
    assert url == "http://127.0.0.1:8222/login"
    [line] = people.said
    assert "within 5 minutes" in line
    cookie, token = await people.service.tokens.redeem(code, "192.0.2.1")
    assert (token.user, token.admin) == ("alice", False)
    assert (await people.service.tokens.admit_session(cookie, "192.0.2.1")).user == "alice"
    with pytest.raises(TokenRefused, match="used already"):
        await people.service.tokens.redeem(code, "192.0.2.1")


async def test_as_an_admin(people: People) -> None:
    """An admin's browser has an admin's rights where that is said; nobody else can say it."""
    for flag, admin in (("", False), (" --admin", True)):
        text = await people.run("boss", f"login{flag}", admin=True)
        _, token = await people.service.tokens.redeem(text.strip()[-27:], "192.0.2.1")
        assert token.admin is admin
    with pytest.raises(AccessDenied, match="you are no admin"):
        await people.run("alice", "login --admin")


@pytest.mark.parametrize("request_", [LogIn(), MakeLink("build")])
async def test_without_web_pages(people: People, request_: LogIn | MakeLink) -> None:
    """A server that has none says so, with 69, and makes nothing."""
    service = Service(Settings(web_port=0), people.service.store)
    session = Session(service, people.caller("alice"))
    with pytest.raises(WebOff) as caught:
        await answer(request_, service, Asker(session.caller, "", session))
    assert caught.value.outcome is Outcome.UNAVAILABLE
    assert await people.service.store.tokens.remove("alice", None) == ()


async def test_address_by_another_name(people: People) -> None:
    """Where browsers reach the server by another address, that is what is printed."""
    service = Service(Settings(web_url="https://pipe.example.org"), people.service.store)
    session = Session(service, people.caller("alice"))
    text = await answer(LogIn(), service, Asker(session.caller, "", session))
    assert text.startswith("https://pipe.example.org/login/")
