"""Webhooks in the database: where what a topic gets is sent.

Rules:

- A webhook goes with its user.  A user has at most `MAX_WEBHOOKS`.
- Its secret is not here: it is derived (`pipe.events.webhooks.signing`).  Its URL is, as it was
  given, and some services' URLs are secrets: only their user is shown them.
- Each change leaves an entry in `pipe.store.changes`, but for how it does, which is noted in memory
  and stored a little later.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipe.errors import StoreError
from pipe.language.names import TopicName, quoted
from pipe.language.webhook_requests import Posting
from pipe.store import changes
from pipe.store.tables import users as users_table
from pipe.store.tables import webhooks as table
from pipe.store.uses import Uses

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import ColumnElement, Row

    from pipe.store.changes import Proviso
    from pipe.store.database import Database

MAX_WEBHOOKS = 20
"""Webhooks of one user: each may keep 2 MiB in memory."""

MIN_PREFIX = 4
"""Fewest characters of an ID that name a webhook, so that a typing slip does not remove one."""

MAX_PROBLEM = 200
"""Characters that are stored of what went wrong."""


class WebhookState(enum.Enum):
    """Whether a webhook sends."""

    ACTIVE = "active"
    PAUSED = "paused"


class Health(NamedTuple):
    """How a webhook does; times are seconds since 1970, UTC."""

    succeeded: float | None = None
    """The last success."""
    failing_since: float | None = None
    """The first failure since then."""
    problem: str = ""
    """What the last failure was."""


HEALTHY = Health()


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook."""

    id: str
    user: str
    topic: TopicName
    url: str
    posting: Posting
    name: str
    """As its user wrote it: escape it before printing."""
    created: float
    """Seconds since 1970, UTC."""
    state: WebhookState = WebhookState.ACTIVE
    health: Health = HEALTHY


class WebhookStore:
    """The webhooks in a database.  Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._uses: Uses[str, Health] = Uses(self._store_healths)

    async def close(self) -> None:
        """Store what was noted; call this before closing the database."""
        await self._uses.close()

    async def list_webhooks(self, user: str | None = None) -> tuple[Webhook, ...]:
        """The webhooks of one user or of all, oldest first; none of a user who is not there."""

        def work(connection: Connection) -> tuple[Webhook, ...]:
            return _select(connection, *([] if user is None else [table.c.user == user]))

        return await self._database.read(work)

    async def add(self, webhook: Webhook, proviso: Proviso = lambda _: None) -> None:
        """Make a webhook.

        Raises:
            StoreError: Its user has as many as allowed, or is gone.
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> None:
            # Let nobody else count this user's webhooks meanwhile; in SQLite we are alone anyway.
            user = select(users_table.c.name).where(users_table.c.name == webhook.user)
            connection.execute(user.with_for_update())
            proviso(connection)
            count = select(func.count()).select_from(table).where(table.c.user == webhook.user)
            if connection.execute(count).scalar_one() >= MAX_WEBHOOKS:
                raise StoreError(
                    f"there are {MAX_WEBHOOKS} already, which is as many as there can be: "
                    "'webhooks' lists them, 'webhooks rm' removes one"
                )
            connection.execute(insert(table).values(_row(webhook)))
            _note(connection, webhook)

        try:
            await self._database.write(work)
        except IntegrityError as error:
            raise StoreError(f"there is no user {quoted(webhook.user)} any more") from error

    async def remove(self, user: str, start: str, proviso: Proviso = lambda _: None) -> Webhook:
        """Remove a webhook of a user.

        Args:
            user: The user.
            start: All of its ID or its start.
            proviso: Checks whether the change is still allowed.

        Returns:
            The removed one.

        Raises:
            StoreError: No webhook's ID begins so, or more than one does.
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> Webhook:
            proviso(connection)
            found = _find(connection, user, start)
            connection.execute(delete(table).where(table.c.id == found.id))
            _note(connection, found)
            return found

        return await self._database.write(work)

    async def set_state(
        self, user: str, start: str, state: WebhookState, proviso: Proviso = lambda _: None
    ) -> Webhook:
        """Pause a webhook, or let it go on as if it had never failed.

        Returns:
            The webhook as it was before; otherwise like `remove`.
        """

        def work(connection: Connection) -> Webhook:
            proviso(connection)
            found = _find(connection, user, start)
            values: dict[str, object] = {"state": state.value}
            if state is WebhookState.ACTIVE:
                values["failing_since"] = None
            connection.execute(update(table).where(table.c.id == found.id).values(values))
            _note(connection, found)
            return found

        await self._uses.flush()
        return await self._database.write(work)

    def note_health(self, webhook: str, health: Health) -> None:
        """Note how a webhook does, to be stored a little later.

        Args:
            webhook: Its ID; it is no error if it is gone by then.
            health: All that is known.
        """
        self._uses.note(webhook, health)

    async def _store_healths(self, healths: Mapping[str, Health]) -> None:
        # Sorted, so that two servers never wait for each other's rows in PostgreSQL.
        values = [
            {
                "webhook": webhook,
                "good": health.succeeded,
                "bad": health.failing_since,
                "why": health.problem[:MAX_PROBLEM],
            }
            for webhook, health in sorted(healths.items())
        ]
        statement = (
            update(table)
            .where(table.c.id == bindparam("webhook"))
            .values(
                succeeded=bindparam("good"),
                failing_since=bindparam("bad"),
                problem=bindparam("why"),
            )
        )
        await self._database.write(lambda connection: connection.execute(statement, values))


def _find(connection: Connection, user: str, start: str) -> Webhook:
    if len(start) < MIN_PREFIX:
        raise StoreError(f"give at least {MIN_PREFIX} characters of the webhook's ID")
    found = _select(connection, table.c.user == user, table.c.id.startswith(start, autoescape=True))
    return only(found, start)


def only(found: tuple[Webhook, ...], start: str) -> Webhook:
    """The one webhook that was found by the start of its ID.

    Raises:
        StoreError: There is none, or there are several.
    """
    if len(found) != 1:
        how_many = f"{len(found)} webhooks begin" if found else "no webhook begins"
        raise StoreError(f"{how_many} with {quoted(start)}; 'webhooks' lists them")
    return found[0]


def _note(connection: Connection, webhook: Webhook) -> None:
    changes.note(connection, changes.Kind.WEBHOOK, [(webhook.user, webhook.id)])


def _select(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[Webhook, ...]:
    query = select(table).where(*conditions).order_by(table.c.created, table.c.id)
    return tuple(map(_read, connection.execute(query)))


def _read(row: Row[*tuple[Any, ...]]) -> Webhook:
    return Webhook(
        id=row.id,
        user=row.user,
        topic=TopicName(row.owner, tuple(row.path.split("/"))),
        url=row.url,
        posting=Posting(row.frame),
        name=row.name,
        created=row.created,
        state=WebhookState(row.state),
        health=Health(row.succeeded, row.failing_since, row.problem),
    )


def _row(webhook: Webhook) -> dict[str, object]:
    return {
        "id": webhook.id,
        "user": webhook.user,
        "owner": webhook.topic.owner,
        "path": "/".join(webhook.topic.path),
        "url": webhook.url,
        "frame": webhook.posting.value,
        "name": webhook.name,
        "state": webhook.state.value,
        "created": webhook.created,
        "succeeded": webhook.health.succeeded,
        "failing_since": webhook.health.failing_since,
        "problem": webhook.health.problem,
    }
