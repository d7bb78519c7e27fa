"""Keeps what is alive within its rights, as lasting rights come and go.

- Grants are kept in the database and judged from memory (`pipe.rights.access`).  What a command
  here changes counts as soon as the database has it, and ends at once whatever depended on it.
- A grant that ends is taken away by a timer for the earliest end, or by the next look where the
  clock on the wall was set meanwhile.
- What other processes take away (``pipe user rm``, another server) is in the database's log of
  changes.  At each login and every `LOOK_SECONDS` the database's stamp is compared, which costs
  microseconds; only if it is another one is the log read.  PostgreSQL's tells of others too late
  for that, so there the log is read each time.  SQLite cannot tell another process that something
  has changed, so this looks instead of being woken, as `pipe.ssh.login.tenure` does at files.
- A command that is cancelled between database and memory is made good by that same look.
- Whoever came with a token that does not reach everything changes nothing at all.
- Whoever was removed by another process changes nothing any more, not even before that look: the
  name may be somebody else's already, so a change's own transaction asks the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from pipe.errors import AccessDenied, StoreUnavailable
from pipe.language.names import TopicName
from pipe.rights.access import DEMOTED_TEXT, REMOVED_TEXT, WITHDRAWN_TEXT, Loss
from pipe.store import GrantStore
from pipe.store.changes import LOOK_BACK, Kind, last_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Sequence

    from sqlalchemy import Connection

    from pipe.rights.access import Access
    from pipe.rights.callers import Caller
    from pipe.rights.grants import Grant
    from pipe.rights.live import LiveSession
    from pipe.store import Key, NewKey, NewToken, Store, Token
    from pipe.store.changes import Change, Proviso

log = structlog.get_logger()

_LOST_TEXTS = {Kind.ADMIN: DEMOTED_TEXT, Kind.TOKEN: WITHDRAWN_TEXT}

LOOK_SECONDS = 0.5
"""How late another process' change may be noticed: half of what is promised."""


class Guard:
    """The lasting rights of one server.

    Args:
        access: the judge, which is told of everything.
        store: the accounts.
        expel: ends the sessions of callers who are barred, all but its argument.
    """

    def __init__(
        self,
        access: Access,
        store: Store,
        expel: Callable[[LiveSession | None], None],
    ) -> None:
        self._access = access
        self._store = store
        self._grants = GrantStore(store.database)
        self._expel = expel
        self._lock = asyncio.Lock()  # held from a change of the database to that of the memory
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stamp: Hashable | None = None
        self._newest = 0
        self._seen: set[int] = set()

    async def start(self) -> None:
        """Load all grants, and begin to watch; before the first session.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        self._stamp = self._store.database.stamp()
        self._note_seen(await self._load())
        self._watch = asyncio.get_running_loop().create_task(self._look_for_ever())

    async def close(self) -> None:
        """Watch no more."""
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
            StoreError: a grantee is no user, there are too many, the database is away.
        """
        topic = grants[0].topic
        async with self._lock:
            self._set_grants(topic, await self._grants.put(grants, self._still_there(caller)))

    async def revoke(self, caller: Caller, topic: TopicName, grantees: Collection[str]) -> set[str]:
        """Take grants on one topic back, and end the sessions that depended on them.

        Returns:
            Those who had one.

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
            StoreError: the key is somebody's already, the database is away.
        """
        async with self._lock:
            await self._store.add_key(
                caller.user, key, proved=False, proviso=self._still_there(caller)
            )

    async def remove_key(
        self, caller: Caller, fingerprint: str, *, keep_last: bool, spare: LiveSession
    ) -> Key:
        """Take a key from the caller, and end the sessions that it logged in.

        Args:
            caller: whose key it is.
            fingerprint: all of it, or its start.
            keep_last: refuse to remove the last one that is known to be the caller's.
            spare: the session that asks: it has an answer to give yet.

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
        """Make a token, as `pipe.store.admission.make_token` describes it.

        Raises:
            AccessDenied: the caller was removed.
            StoreError: the caller has too many, the database is away.
        """
        async with self._lock:
            await self._store.tokens.add(token, self._still_there(caller))

    async def remove_token(
        self, caller: Caller, start: str, *, spare: LiveSession | None = None
    ) -> Token:
        """Take a token back, and end the sessions that it let in.

        Args:
            caller: whose token it is.
            start: all of its ID, or how it begins.
            spare: the session that asks, if one does: it has an answer to give yet.

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

    def _still_there(self, caller: Caller) -> Proviso:
        """The proviso that the caller may still change something, by memory and by the log."""
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
        """What was granted to a key goes with the last user who had it."""
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
        """Follow what others have taken away so far; each login waits for it.

        So whoever has just got a free name, or a key that was removed, finds nothing of what the
        one before had.

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
                database.note_change()  # so that no login is taken from memory that this has ended
            await self._follow(news)
            self._note_seen(changes)
        self._stamp = stamp

    def _note_seen(self, changes: Sequence[Change]) -> None:
        self._newest = max((one.number for one in changes), default=self._newest)
        self._seen.update(one.number for one in changes)
        self._seen = {number for number in self._seen if number > self._newest - LOOK_BACK}

    async def _follow(self, changes: Sequence[Change]) -> None:
        """Look again at what the log names: first at who is gone, so that they are told so."""
        tokens = [one.subject for one in changes if one.kind is Kind.TOKEN]
        for token in tokens:
            self._access.end_token(token)
        if tokens:
            self._expel(None)
        removed = [one for one in changes if one.kind not in {Kind.GRANTS, Kind.TOKEN}]
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
        """End what depended on what is gone, unless it is a key that is there again.

        A user who is there again is somebody else.
        """
        if change.kind is Kind.USER:
            self._access.bar(change.user)
            self._expel(None)
            self._access.forget(change.user)
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
        """Read all grants anew; the changes that they show already."""
        grants, changes = await self._grants.load()
        self._access.load(grants)
        self._set_timer()
        return changes
