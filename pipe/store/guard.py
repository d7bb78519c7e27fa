"""Keeps live sessions within their rights as lasting rights come and go.

- Grants are stored in the database and decided from memory (`pipe.rights.access`).  A command's
  change counts as soon as the database has it, and at once ends whatever depended on it.
- A timer for the earliest end removes grants that have ended, or the next look if the wall clock
  was set meanwhile.
- What other processes take away (``pipe user rm``, another server) is in the database's log of
  changes.  Each login and each look every `LOOK_SECONDS` compares the database's stamp, which costs
  microseconds, and reads the log only if it has changed.  PostgreSQL's stamp shows others' changes
  too late for that, so there the log is read each time.  SQLite cannot notify another process, so
  this polls, as `pipe.ssh.login.tenure` does with files.
- That look also repairs a command that was cancelled between database and memory.
- A caller whose token does not reach everything can change nothing at all.
- A caller that another process removed can change nothing, not even before that look: somebody else
  may already have the name, so each change checks the log in its own transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from pipe.errors import AccessDenied, StoreUnavailable
from pipe.language.names import TopicName
from pipe.rights.access import DEMOTED_TEXT, REMOVED_TEXT, WITHDRAWN_TEXT, Loss
from pipe.store import GrantStore
from pipe.store.changes import LOOK_BACK, Kind, last_loss

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence

    from sqlalchemy import Connection

    from pipe.rights.access import Access
    from pipe.rights.callers import Caller
    from pipe.rights.grants import Grant
    from pipe.rights.live import LiveSession
    from pipe.store import Key, NewKey, NewToken, Store, Token
    from pipe.store.changes import Change, Proviso

log = structlog.get_logger()

_LOST_TEXTS = {Kind.ADMIN: DEMOTED_TEXT, Kind.TOKEN: WITHDRAWN_TEXT}

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How late another process's change may be noticed: half of what is promised."""


class Mark(NamedTuple):
    """How far a server has read the log of changes.

    ``newest`` is the number of the newest entry that it has read, and ``missing`` has those of the
    `LOOK_BACK` numbers up to it that it has not.
    """

    newest: int
    missing: tuple[int, ...]

    @property
    def recent(self) -> range:
        """The numbers of which ``missing`` tells."""
        return range(max(1, self.newest - LOOK_BACK + 1), self.newest + 1)


class Guard:
    """The lasting rights of one server.

    Args:
        access: decides rights, and is told about every change.
        store: the accounts.
        expel: ends the sessions of barred callers, except its argument.
    """

    def __init__(
        self,
        access: Access,
        store: Store,
        expel: Callable[[LiveSession | None], None],
        removed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._access = access
        self._store = store
        self._grants = GrantStore(store.database)
        self._expel = expel
        self._removed = removed
        self._lock = asyncio.Lock()  # held from a change in the database until memory has it
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stamp: Hashable | None = None
        self._newest = 0
        self._seen: set[int] = set()
        self._followers: list[tuple[Kind, Callable[[str], Awaitable[None]]]] = []

    def call(self, kind: Kind, follow: Callable[[str], Awaitable[None]]) -> None:
        """Call something with the user whenever one had a change of this kind, or was removed.

        Changes by this process come too, a little later.
        """
        self._followers.append((kind, follow))

    async def start(self) -> None:
        """Load all grants and start watching; call this before the first session.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        self._stamp = self._store.database.stamp()
        self._note_seen(await self._load())
        self._watch = asyncio.get_running_loop().create_task(self._look_for_ever())

    async def close(self) -> None:
        """Stop watching."""
        if self._timer:
            self._timer.cancel()
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    # -- what commands change ---------------------------------------------------------------------

    async def grant(self, caller: Caller, grants: Sequence[Grant]) -> None:
        """Give grants on one topic, all or none.

        Raises:
            AccessDenied: the caller was removed.
            StoreError: a grantee is not a user, there are too many, the database is away.
        """
        topic = grants[0].topic
        async with self._lock:
            self._set_grants(topic, await self._grants.put(grants, self._still_there(caller)))

    async def revoke(self, caller: Caller, topic: TopicName, grantees: Collection[str]) -> set[str]:
        """Withdraw grants on one topic, and end the sessions that depended on them.

        Returns:
            The grantees that had one.

        Raises:
            AccessDenied: the caller was removed.
            StoreError: the database is away.
        """
        async with self._lock:
            had, left = await self._grants.remove(topic, grantees, self._still_there(caller))
            self._set_grants(topic, left)
        return had

    async def add_key(self, caller: Caller, key: NewKey) -> None:
        """Give the caller one more key, to be proved by the first login with it.

        Raises:
            AccessDenied: the caller was removed.
            StoreError: somebody already has the key, the database is away.
        """
        async with self._lock:
            await self._store.add_key(
                caller.user, key, proved=False, proviso=self._still_there(caller)
            )

    async def remove_key(
        self, caller: Caller, fingerprint: str, *, keep_last: bool, spare: LiveSession
    ) -> Key:
        """Remove a caller's key, and end the sessions that it logged in.

        Args:
            caller: whose key it is.
            fingerprint: all of it, or its start.
            keep_last: refuse to remove the last one that is known to be the caller's.
            spare: the session that asks, which still has to answer.

        Raises:
            AccessDenied: the caller was removed.
            StoreError: there is no such key, it is the last one, the database is away.
        """
        async with self._lock:
            key = await self._store.remove_key(
                caller.user, fingerprint, keep_last=keep_last, proviso=self._still_there(caller)
            )
            if key.proved:
                await self._forget_key(caller.user, key.fingerprint, spare)
        return key

    async def add_token(self, caller: Caller, token: NewToken) -> None:
        """Make a token that `pipe.store.admission.make_token` describes.

        Raises:
            AccessDenied: the caller was removed.
            StoreError: the caller has too many, the database is away.
        """
        async with self._lock:
            await self._store.tokens.add(token, self._still_there(caller))

    async def remove_token(
        self, caller: Caller, start: str, *, spare: LiveSession | None = None
    ) -> Token:
        """Remove a token, and end the sessions that it let in.

        Args:
            caller: whose token it is.
            start: all of its ID, or its start.
            spare: the session that asks, if one does, which still has to answer.

        Raises:
            AccessDenied: the caller was removed.
            StoreError: there is no such token, the database is away.
        """
        async with self._lock:
            (token,) = await self._store.tokens.remove(
                caller.user, start, self._still_there(caller)
            )
            self._access.end_token(token.id)
            self._expel(spare)
        return token

    async def change(self, caller: Caller, work: Callable[[Proviso], Awaitable[T]]) -> T:
        """Make another change of a caller's, that no session's rights depend on.

        Args:
            caller: who makes it.
            work: makes it; gets the proviso that the caller is still there.

        Raises:
            AccessDenied: the caller was removed.
            PipeError: from ``work``.
        """
        async with self._lock:
            return await work(self._still_there(caller))

    def _still_there(self, caller: Caller) -> Proviso:
        """A proviso that the caller may still make changes, by memory and by the log."""
        self._access.require(caller)
        if caller.scope is not None:
            raise AccessDenied("access denied: a token is for topics, and changes no account")

        def check(connection: Connection) -> None:
            loss = last_loss(
                connection,
                caller.user,
                caller.fingerprint,
                self._newest,
                self._seen,
                caller.token,
            )
            if loss:
                raise AccessDenied(_LOST_TEXTS.get(loss, REMOVED_TEXT))

        return check

    def _set_grants(self, topic: TopicName, grants: Sequence[Grant]) -> None:
        self._access.set_grants(topic, grants, Loss.REVOKED)
        self._set_timer()

    async def _forget_key(
        self, user: str, fingerprint: str, spare: LiveSession | None = None
    ) -> None:
        """Remove a key's grants when its last user is gone."""
        self._access.bar(user, fingerprint)
        self._expel(spare)
        if not await self._store.users_of(fingerprint):
            self._access.forget(fingerprint)

    # -- what ends by itself ----------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        end = self._access.next_end
        if end is not None:
            delay = max(0.0, end - time.time())
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        if self._access.expire():
            self._expel(None)
        self._set_timer()

    # -- what others change -----------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        away = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            end = self._access.next_end
            if end is not None and end <= time.time():
                self._expire()
            try:
                await self.catch_up()
            except StoreUnavailable as error:
                if not away:
                    log.warning("cannot see what others change", error=error.message)
                away = True
            except Exception:
                log.exception("cannot see what others change")
            else:
                away = False

    async def catch_up(self) -> None:
        """Follow what others have taken away so far; each login waits for this.

        So the new holder of a freed name or key gets nothing that the previous one had.

        Raises:
            StoreUnavailable: something has changed, and the database does not say what.
        """
        database = self._store.database
        stamp = database.stamp()
        if database.tells_at_once and stamp is not None and stamp == self._stamp:
            return
        async with self._lock:
            changes = await self._grants.changes_since(self._newest)
            news = [one for one in changes if one.number not in self._seen]
            if news:
                database.note_change()  # so that no login uses cached data that this has ended
            await self._follow(news)
            for kind, follow in self._followers:
                for user in {one.user for one in news if one.kind in {kind, Kind.USER}}:
                    await follow(user)
            self._note_seen(changes)
        self._stamp = stamp

    @property
    def mark(self) -> Mark:
        """How far it has read, for a process that takes over one of the logins here."""
        mark = Mark(self._newest, ())
        return mark._replace(missing=tuple(n for n in mark.recent if n not in self._seen))

    async def why_lost(self, caller: Caller, mark: Mark) -> str:
        """Why a caller may do nothing more who was good when another process's guard was there.

        Make ``caller`` after a `catch_up` and before this, so that what is taken away later bars it
        as it bars everybody.

        Returns:
            The reason, or nothing.

        Raises:
            StoreUnavailable: it cannot be known now.
        """
        if self._store.database.tells_at_once and mark == self.mark:
            return ""
        seen = set(mark.recent).difference(mark.missing)

        def look(connection: Connection) -> Kind | None:
            return last_loss(connection, caller.user, caller.fingerprint, mark.newest, seen)

        loss = await self._store.database.write(look)
        return _LOST_TEXTS.get(loss, REMOVED_TEXT) if loss else ""

    def _note_seen(self, changes: Sequence[Change]) -> None:
        self._newest = max((one.number for one in changes), default=self._newest)
        self._seen.update(one.number for one in changes)
        self._seen = {number for number in self._seen if number > self._newest - LOOK_BACK}

    async def _follow(self, changes: Sequence[Change]) -> None:
        """Check what the log names, removed users and keys first, so that they are told why."""
        tokens = [one.subject for one in changes if one.kind is Kind.TOKEN]
        for token in tokens:
            self._access.end_token(token)
        if tokens:
            self._expel(None)
        removed = [one for one in changes if one.kind in {Kind.USER, Kind.ADMIN, Kind.KEY}]
        for one in removed:
            await self._follow_removal(one)
        if removed:
            await self._load()
            return
        topics = {
            TopicName(one.user, tuple(one.subject.split("/")))
            for one in changes
            if one.kind is Kind.GRANTS
        }
        if topics:
            for topic, grants in (await self._grants.load_topics(topics)).items():
                self._set_grants(topic, grants)

    async def _follow_removal(self, change: Change) -> None:
        """End what depended on something removed, unless it is a key that is back.

        A user who is back is somebody else.
        """
        if change.kind is Kind.USER:
            self._access.bar(change.user)
            self._expel(None)
            self._access.forget(change.user)
            self._removed(change.user)
            return
        if change.kind is Kind.ADMIN:
            self._access.bar(change.user, text=DEMOTED_TEXT)
            self._expel(None)
            return
        there = await self._store.get_user(change.user) is not None
        keys = await self._store.list_keys(change.user) if there else ()
        if all(key.fingerprint != change.subject for key in keys):
            await self._forget_key(change.user, change.subject)

    async def _load(self) -> Sequence[Change]:
        """Read all grants again, and return the changes that they already include."""
        grants, changes = await self._grants.load()
        self._access.load(grants)
        self._set_timer()
        return changes
