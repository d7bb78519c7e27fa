"""Who comes with a token, a cookie, a link or a code: let in, refused, and ended with it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypedDict, Unpack

import pytest

from pipe.errors import AccessDenied, Outcome, Refusal, StoreError, TokenRefused
from pipe.rights.access import DEMOTED_TEXT, OVER_TEXT, REMOVED_TEXT, WITHDRAWN_TEXT
from pipe.rights.callers import NO_BACKING, Caller
from pipe.rights.scopes import Reach, Scope
from pipe.store import Store, TokenKind
from pipe.store import admission as tokens_module
from pipe.store import guard as guard_module
from pipe.store.admission import digest, make_secret, make_token
from pipe.stream.ports import Mode
from tests.e2e.processes import DEADLINE
from tests.sessions import People, Session, fingerprint, key, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from pipe.service import Service
    from pipe.store import Token

ADDRESS = "192.0.2.1"
SCOPE = Scope(Reach.parse(["build"], owner="alice"), Reach.parse(["build"], owner="alice"))
API, SESSION, CODE, LINK = TokenKind.API, TokenKind.SESSION, TokenKind.CODE, TokenKind.LINK


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a database that several may open."""
    return f"sqlite:///{tmp_path}/pipe.db"


class Clock:
    """The clock on the wall, which can be set forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the server."""
    return Clock(monkeypatch)


@pytest.fixture
async def service(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,  # noqa: ARG001 - comes first
) -> AsyncIterator[Service]:
    """A server, with alice, bob and an admin, that looks often at what has changed."""
    monkeypatch.setattr(guard_module, "LOOK_SECONDS", 0.01)
    async with started(url) as service:
        people = People(service)
        await people.add("alice", "bob")
        await people.add("boss", admin=True)
        yield service


@pytest.fixture
async def outside(url: str, service: Service) -> AsyncIterator[Store]:  # noqa: ARG001 - comes first
    """The same database, as the command line opens it."""
    async with await Store.open(url) as store:
        yield store


class Wishes(TypedDict, total=False):
    """What `make_token` may be asked for."""

    scope: Scope
    name: str
    admin: bool
    uses: int | None


async def make(
    service: Service,
    kind: TokenKind = API,
    *,
    maker: Caller | None = None,
    lifetime: float = 3600.0,
    **wishes: Unpack[Wishes],
) -> str:
    """Alice, or somebody else, makes something; what its bearer shows."""
    if kind in {API, LINK}:
        wishes.setdefault("scope", SCOPE)
    maker = maker or Caller("alice", fingerprint("alice"))
    secret = make_secret(kind)
    await service.guard.add_token(maker, make_token(maker, secret, kind, lifetime, **wishes))
    return secret.text


async def log_in(service: Service, *, maker: Caller | None = None, **wishes: Unpack[Wishes]) -> str:
    """Alice, or somebody else, logs a browser in; its cookie."""
    code = await make(service, CODE, maker=maker, **wishes)
    text, _ = await service.tokens.redeem(code, ADDRESS)
    return text


def reads(service: Service, caller: Caller) -> Session:
    """A session of a caller's that reads a topic."""
    session = Session(service, caller)
    session.join(Mode.SUBSCRIBE, "build")
    return session


async def assert_cut(session: Session, text: str) -> None:
    """It ends, as denied, with these words."""
    async with asyncio.timeout(DEADLINE):
        assert await session.wait_over() == (Outcome.DENIED, text)


# -- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TokenKind)
def test_secrets(kind: TokenKind) -> None:
    """Each is another one, long enough, of letters and digits, and kept as its digest."""
    made = [make_secret(kind) for _ in range(100)]
    assert len({one.text for one in made}) == len({one.id for one in made}) == 100
    for one in made:
        assert one.digest == digest(one.text)
        assert one.text.replace("_", "").isalnum()
        assert len(one.id) == 12
        secret = one.text.rpartition("_")[2]
        assert len(secret) == (43 if kind in {API, SESSION} else 27)
        assert secret not in one.id
        assert one.text.startswith(f"ptk_{one.id}_") is (kind is API)
    assert len({one.text[-1] for one in made}) > 10


def test_what_a_caller_makes_ends_with_its_login() -> None:
    """A certificate's, a file's or a cookie's end is that of all that is made by it."""
    end = time.time() + 60.0
    lent = Caller("alice", fingerprint("alice"), lent=True, until=end, backing="file")
    token = make_token(lent, make_secret(API), API, 3600.0, scope=SCOPE)
    assert (token.until, token.backing, token.made_by) == (end, "file", fingerprint("alice"))
    assert make_token(lent, make_secret(API), API, 5.0, scope=SCOPE).until < end
    code = make_token(lent, make_secret(CODE), CODE, 3600.0)
    assert code.until == code.session_until == end
    lasting = make_token(Caller("alice", "SHA256:a"), make_secret(CODE), CODE, 3600.0)
    assert lasting.session_until
    assert lasting.until == pytest.approx(lasting.created + tokens_module.CODE_SECONDS)
    assert lasting.session_until == pytest.approx(lasting.created + 3600.0)
    assert lasting.uses_left == 1


def test_who_may_make_none() -> None:
    """Nor who is held to what no token would be held to, nor for an admin's rights no admin."""
    held = Caller("alice", "SHA256:a", lent=True, backing=NO_BACKING)
    with pytest.raises(AccessDenied, match="holds you to an address or a command"):
        make_token(held, make_secret(API), API, 60.0, scope=SCOPE)
    with pytest.raises(AccessDenied, match="you are no admin"):
        make_token(Caller("alice", "SHA256:a"), make_secret(API), API, 60.0, admin=True)


# -- let in ---------------------------------------------------------------------------------------


async def test_token_lets_in_as_its_user_within_its_scope(service: Service) -> None:
    """Its caller is the user, with the key that made it, the scope, the name and the end."""
    text = await make(service, name="ci")
    for user in (None, "alice"):
        caller = await service.tokens.admit(text, ADDRESS, user)
        assert (caller.user, caller.fingerprint) == ("alice", fingerprint("alice"))
        assert (caller.scope, caller.admin, caller.lent) == (SCOPE, False, True)
        assert (caller.token_name, caller.token) == ("ci", text.split("_")[1])
        assert caller.until == pytest.approx(time.time() + 3600.0, abs=60.0)
        service.tokens.leave(caller)
    [token] = await service.store.tokens.list_tokens()
    assert token.used
    assert token.used_from == ADDRESS


@pytest.mark.parametrize("admin", [False, True])
async def test_admin_only_if_it_was_said(service: Service, admin: bool) -> None:
    """An admin's token has no admin's rights unless it was made for them."""
    boss = Caller("boss", fingerprint("boss"), admin=True)
    text = await make(service, maker=boss, admin=admin)
    cookie = await log_in(service, maker=boss, admin=admin)
    assert (await service.tokens.admit(text, ADDRESS)).admin is admin
    assert (await service.tokens.admit_session(cookie, ADDRESS)).admin is admin


async def test_cookie_lets_in_as_the_user_is(service: Service) -> None:
    """A browser may do what its user may, until when its login was for."""
    code = await make(service, CODE, lifetime=7200.0)
    assert (await service.tokens.look_at_code(code)).user == "alice"
    text, token = await service.tokens.redeem(code, ADDRESS)
    caller = await service.tokens.admit_session(text, ADDRESS)

    assert (caller.user, caller.scope, caller.lent) == ("alice", None, True)
    assert caller.until == token.session_until == pytest.approx(time.time() + 7200.0, abs=60.0)


async def test_link_lets_in_so_many_times(service: Service) -> None:
    """A link is counted when it is used, and not when somebody looks what it is."""
    text = await make(service, LINK, uses=2)
    for left in (2, 1):
        assert (await service.tokens.look_at_link(text)).uses_left == left
        caller = await service.tokens.admit_link(text, ADDRESS)
        assert caller.scope == SCOPE
    for question in (service.tokens.look_at_link(text), service.tokens.admit_link(text, ADDRESS)):
        with pytest.raises(TokenRefused, match="used as often as it may be") as caught:
            await question
        assert caught.value.reason is Refusal.USED_UP


# -- refused --------------------------------------------------------------------------------------


async def assert_refused(service: Service, text: str, *kinds: TokenKind) -> None:
    """Whatever it is shown as, it is unknown."""
    tokens = service.tokens
    questions: dict[TokenKind, Callable[[], Awaitable[object]]] = {
        API: lambda: tokens.admit(text, ADDRESS),
        SESSION: lambda: tokens.admit_session(text, ADDRESS),
        LINK: lambda: tokens.admit_link(text, ADDRESS),
        CODE: lambda: tokens.redeem(text, ADDRESS),
    }
    for kind in kinds or TokenKind:
        with pytest.raises(TokenRefused) as caught:
            await questions[kind]()
        assert caught.value.reason is Refusal.UNKNOWN
        assert caught.value.outcome is Outcome.DENIED
        assert caught.value.message.isprintable()


@pytest.mark.parametrize("kind", TokenKind)
async def test_each_is_only_what_it_is(service: Service, kind: TokenKind) -> None:
    """A cookie is no token, a code no link and so on; to show it so uses nothing up."""
    text = (
        await log_in(service)
        if kind is SESSION
        else await make(service, kind, uses=1 if kind is LINK else None)
    )
    await assert_refused(service, text, *(other for other in TokenKind if other is not kind))
    if kind is LINK:
        await service.tokens.admit_link(text, ADDRESS)
    elif kind is CODE:
        await service.tokens.redeem(text, ADDRESS)


async def test_misspelt_is_unknown(service: Service) -> None:
    """One character more, less or otherwise, in the ID or in the secret: all the same answer."""
    text = await make(service)
    prefix, number, secret = text.split("_")
    other = "b" if number[0] == "a" else "a"
    wrong = (
        text[:-1],
        f"{text}x",
        f"{text}\n",
        text.swapcase(),
        f"{prefix}_{other}{number[1:]}_{secret}",
        f"{prefix}_{number}_{secret[::-1]}",
        f"_{number}_{secret}",
        secret,
        number,
        "",
        "\x00",
        "\udcff" * 70,
        "x" * 100_000,
    )
    for one in wrong:
        await assert_refused(service, one)
    await service.tokens.admit(text, ADDRESS)


async def test_anothers_token_is_unknown(service: Service) -> None:
    """Whoever says to be bob is not let in with alice's, and not told that there is one."""
    text = await make(service)
    with pytest.raises(TokenRefused) as caught:
        await service.tokens.admit(text, ADDRESS, "bob")
    assert caught.value.reason is Refusal.UNKNOWN


@pytest.mark.parametrize("kind", [API, LINK, CODE])
async def test_expired_is_told(service: Service, kind: TokenKind, clock: Clock) -> None:
    """Who comes too late is told so."""
    text = await make(service, kind, uses=1 if kind is LINK else None)
    clock.ahead = 4000.0
    tokens = service.tokens
    ask = {API: tokens.admit, LINK: tokens.admit_link, CODE: tokens.redeem}[kind]
    with pytest.raises(TokenRefused, match=r"the time .* is over") as caught:
        await ask(text, ADDRESS)
    assert caught.value.reason is Refusal.EXPIRED


async def test_code_is_good_once(service: Service) -> None:
    """The second who comes with it is told that it was used, also if both come at once."""
    code = await make(service, CODE)
    results = await asyncio.gather(
        *(service.tokens.redeem(code, ADDRESS) for _ in range(5)), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, TokenRefused)]
    assert len(refused) == 4
    assert {one.reason for one in refused} == {Refusal.USED_UP}
    with pytest.raises(TokenRefused, match="used already"):
        await service.tokens.look_at_code(code)


async def test_scoped_token_changes_nothing(service: Service) -> None:
    """Neither tokens nor grants nor keys, whatever front asks, and whatever its scope says."""
    everything = Scope(Reach.parse(["**"], owner="alice"), Reach.parse(["**"], owner="alice"))
    caller = await service.tokens.admit(await make(service, scope=everything), ADDRESS)
    session = Session(service, caller)
    guard = service.guard
    new = make_token(caller, make_secret(API), API, 60.0, scope=everything)
    for question in (
        guard.add_token(caller, new),
        guard.remove_token(caller, caller.token, spare=session),
        guard.add_key(caller, key("new")),
        guard.remove_key(caller, fingerprint("alice"), keep_last=False, spare=session),
    ):
        with pytest.raises(AccessDenied, match="a token is for topics"):
            await question
    assert len(await service.store.tokens.list_tokens()) == 1


# -- ended ----------------------------------------------------------------------------------------


async def test_removal_ends_sessions(service: Service) -> None:
    """Those that the token let in end at once, and it lets in no more; others go on."""
    text, other_text = await make(service), await make(service)
    first, second = [reads(service, await service.tokens.admit(text, ADDRESS)) for _ in range(2)]
    other = reads(service, await service.tokens.admit(other_text, ADDRESS))
    own = reads(service, Caller("alice", fingerprint("alice")))
    maker = Caller("alice", fingerprint("alice"))
    await service.guard.remove_token(maker, text.split("_")[1], spare=own)

    assert first.ended == second.ended == (Outcome.DENIED, WITHDRAWN_TEXT)
    assert other.ended is own.ended is None
    await assert_refused(service, text, API)


async def test_removal_spares_who_asks(service: Service) -> None:
    """A browser that logs out gets its answer."""
    caller = await service.tokens.admit_session(await log_in(service), ADDRESS)
    asking, reading = Session(service, caller), reads(service, caller)
    await service.guard.remove_token(caller, caller.token, spare=asking)

    assert asking.ended is None
    assert reading.ended == (Outcome.DENIED, WITHDRAWN_TEXT)
    with pytest.raises(AccessDenied, match=WITHDRAWN_TEXT):
        service.access.require(caller)


async def test_removal_elsewhere(service: Service, outside: Store) -> None:
    """What `pipe token rm` removes ends here within a look, and grants stay as they are."""
    session = reads(service, await service.tokens.admit(await make(service), ADDRESS))
    await outside.tokens.remove("alice", None)
    await assert_cut(session, WITHDRAWN_TEXT)


@pytest.mark.parametrize(
    ("what", "text"),
    [("user", REMOVED_TEXT), ("key", REMOVED_TEXT), ("admin", DEMOTED_TEXT)],
)
async def test_end_of_the_maker(service: Service, outside: Store, what: str, text: str) -> None:
    """With its user, the key that made it, or the flag, a token's sessions end, here or there."""
    boss = Caller("boss", fingerprint("boss"), admin=True)
    token = await make(service, maker=boss, admin=True)
    cookie = await log_in(service, maker=boss, admin=True)
    sessions = [
        reads(service, await service.tokens.admit_session(cookie, ADDRESS)),
        Session(service, await service.tokens.admit(token, ADDRESS)),
    ]
    if what == "user":
        await outside.remove_user("boss")
    elif what == "key":
        await outside.remove_key("boss", fingerprint("boss"))
    else:
        await outside.set_admin("boss", admin=False)
    for session in sessions:
        await assert_cut(session, text)

    if what == "admin":
        assert not (await service.tokens.admit(token, ADDRESS)).admin
    else:
        await assert_refused(service, token, API)
        await assert_refused(service, cookie, SESSION)


async def test_end_of_time(service: Service, clock: Clock) -> None:
    """When its time is over a token's sessions end, and those of others go on."""
    session = reads(service, await service.tokens.admit(await make(service), ADDRESS))
    longer = reads(service, await service.tokens.admit(await make(service, lifetime=9e4), ADDRESS))
    clock.ahead = 3601.0
    await assert_cut(session, OVER_TEXT)
    assert longer.ended is None


async def test_removed_while_it_is_let_in(service: Service) -> None:
    """Whoever is let in while the token is removed is refused, or ended at once; never left."""
    maker = Caller("alice", fingerprint("alice"))
    own = Session(service, maker)
    for number in range(30):
        text = await make(service)
        admit = asyncio.create_task(service.tokens.admit(text, ADDRESS))
        for _ in range(number % 10):
            await asyncio.sleep(0)
        await service.guard.remove_token(maker, text.split("_")[1], spare=own)
        await asyncio.wait({admit})
        if admit.exception():
            assert isinstance(admit.exception(), AccessDenied)
        else:
            assert service.access.why_barred(admit.result()) == WITHDRAWN_TEXT


async def test_nothing_is_kept_of_who_has_gone(service: Service) -> None:
    """A server that lets in a million a day remembers those who are here."""
    text = await make(service)
    for _ in range(50):
        service.tokens.leave(await service.tokens.admit(text, ADDRESS))
    caller = await service.tokens.admit(text, ADDRESS)
    assert len(service.access._bearers) == 1  # noqa: SLF001
    service.access.end_token(caller.token)
    service.tokens.leave(caller)
    assert len(service.access._bearers) == 0  # noqa: SLF001
    assert not service.access._dismissed  # noqa: SLF001


async def test_flurry_of_uses_writes_nothing(service: Service) -> None:
    """A token that is used again and again is looked up in memory, and noted once in a while."""
    text = await make(service)
    service.tokens.leave(await service.tokens.admit(text, ADDRESS))
    await service.store.tokens.list_tokens()  # so that the use is stored
    before = service.store.database.stamp()
    for _ in range(100):
        service.tokens.leave(await service.tokens.admit(text, ADDRESS))
    await service.store.tokens.list_tokens()
    assert service.store.database.stamp() == before


async def test_oldest_browser_is_logged_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One browser too many ends the sessions of the one that logged in first."""
    monkeypatch.setattr("pipe.store.tokens.LIMITS", {CODE: 9, SESSION: 2})
    first = reads(service, await service.tokens.admit_session(await log_in(service), ADDRESS))
    second = reads(service, await service.tokens.admit_session(await log_in(service), ADDRESS))
    await log_in(service)
    await assert_cut(first, WITHDRAWN_TEXT)
    assert second.ended is None


# -- what stands behind it ------------------------------------------------------------------------


class FakeVoucher:
    """Vouches until it is told not to."""

    def __init__(self) -> None:
        self.refuses = False
        self.here: dict[int, object] = {}

    async def vouch(self, token: Token, address: str) -> object:
        """Look, which takes a while."""
        await asyncio.sleep(0)
        if self.refuses:
            raise AccessDenied("access denied: not from here")
        return token.backing, address

    def begin(self, caller: Caller, identity: object, address: str) -> None:
        """Remember it."""
        assert identity == (caller.backing, address)
        self.here[caller.login] = identity

    def end(self, caller: Caller) -> None:
        """Forget it."""
        self.here.pop(caller.login, None)


async def test_voucher_is_asked(service: Service) -> None:
    """A token of a file's or a certificate's login is good as long as that is, and only here."""
    lent = Caller("alice", fingerprint("alice"), lent=True, backing="file")
    text, own = await make(service, maker=lent), await make(service)
    code = await make(service, CODE, maker=lent)
    with pytest.raises(AccessDenied, match="nobody vouches"):
        await service.tokens.admit(text, ADDRESS)
    service.tokens.voucher = voucher = FakeVoucher()
    caller = await service.tokens.admit(text, ADDRESS)
    cookie, _ = await service.tokens.redeem(code, ADDRESS)
    browser = await service.tokens.admit_session(cookie, ADDRESS)
    assert set(voucher.here) == {caller.login, browser.login}
    assert browser.backing == "file"
    service.tokens.leave(caller)
    service.tokens.leave(browser)
    assert not voucher.here

    voucher.refuses = True
    await service.tokens.admit(own, ADDRESS)
    for question in (
        service.tokens.admit(text, ADDRESS),
        service.tokens.admit_session(cookie, ADDRESS),
    ):
        with pytest.raises(AccessDenied, match="not from here"):
            await question


async def test_removed_maker_makes_nothing(service: Service, outside: Store) -> None:
    """Who was removed by another process makes no token for whoever has the name next."""
    maker = Caller("alice", fingerprint("alice"))
    await outside.remove_user("alice")
    await outside.add_user("alice", keys=[key("alice")])
    new = make_token(maker, make_secret(API), API, 60.0, scope=SCOPE)
    with pytest.raises((AccessDenied, StoreError), match="removed"):
        await service.guard.add_token(maker, new)
    assert await outside.tokens.list_tokens() == ()


async def test_removed_browser_changes_nothing(
    service: Service, outside: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that another process has just removed makes no token, not even before a look."""
    monkeypatch.setattr(guard_module, "LOOK_SECONDS", 86_400.0)
    await service.guard.catch_up()
    caller = await service.tokens.admit_session(await log_in(service), ADDRESS)
    await asyncio.sleep(0.05)  # the look that was under way is over
    await outside.tokens.remove("alice", None)
    new = make_token(caller, make_secret(API), API, 60.0, scope=SCOPE)
    with pytest.raises(AccessDenied, match=WITHDRAWN_TEXT):
        await service.guard.add_token(caller, new)
