"""Webhooks in both kinds of database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.errors import AccessDenied, StoreError
from pipe.language.names import TopicName
from pipe.language.webhook_requests import Posting
from pipe.store import GrantStore, Store
from pipe.store.changes import Kind
from pipe.store.webhooks import MAX_WEBHOOKS, Health, Webhook, WebhookState

if TYPE_CHECKING:
    from sqlalchemy import Connection


def made(number: int, user: str = "alice") -> Webhook:
    """A webhook."""
    return Webhook(
        id=f"hook{number:08}",
        user=user,
        topic=TopicName("bob", ("ci", "web")),
        url="https://example.org/x",
        posting=Posting.LINE,
        name="a name",
        created=float(number),
    )


@pytest.fixture
async def filled(store: Store) -> Store:
    """Alice and bob."""
    for user in ("alice", "bob"):
        await store.add_user(user)
    return store


async def kinds(store: Store) -> list[tuple[Kind, str, str]]:
    """What the log of changes has."""
    found = await GrantStore(store.database).changes_since(0)
    return [(one.kind, one.user, one.subject) for one in found]


async def test_comes_back_as_it_was(filled: Store) -> None:
    """What is stored is what is listed, of one user or of all, oldest first."""
    for one in (made(2), made(1), made(3, "bob")):
        await filled.webhooks.add(one)
    assert await filled.webhooks.list_webhooks("alice") == (made(1), made(2))
    assert await filled.webhooks.list_webhooks() == (made(1), made(2), made(3, "bob"))
    assert await filled.webhooks.list_webhooks("carol") == ()


async def test_limit_of_a_user(filled: Store) -> None:
    """One too many is refused, and another user's do not count."""
    for number in range(MAX_WEBHOOKS):
        await filled.webhooks.add(made(number))
    with pytest.raises(StoreError, match=f"there are {MAX_WEBHOOKS} already"):
        await filled.webhooks.add(made(MAX_WEBHOOKS))
    await filled.webhooks.add(made(MAX_WEBHOOKS, "bob"))
    assert len(await filled.webhooks.list_webhooks("alice")) == MAX_WEBHOOKS


async def test_remove_by_its_start(filled: Store) -> None:
    """The start of an ID removes one's own; what is short, ambiguous or another's does not."""
    for one in (made(11), made(12), made(3, "bob")):
        await filled.webhooks.add(one)
    for start, message in (
        ("hoo", "at least 4 characters"),
        ("hook", "2 webhooks begin with 'hook'"),
        ("hook%", "no webhook begins"),
        (made(3).id, "no webhook begins"),
    ):
        with pytest.raises(StoreError, match=message):
            await filled.webhooks.remove("alice", start)
    assert await filled.webhooks.remove("alice", made(11).id) == made(11)
    assert await filled.webhooks.list_webhooks("alice") == (made(12),)


async def test_pause_and_resume(filled: Store) -> None:
    """A webhook that goes on is as if it had never failed, but for when it last succeeded."""
    await filled.webhooks.add(made(1))
    filled.webhooks.note_health(made(1).id, Health(5.0, 6.0, "x" * 300))
    await filled.webhooks.set_state("alice", made(1).id, WebhookState.PAUSED)
    [paused] = await filled.webhooks.list_webhooks()
    assert paused.state is WebhookState.PAUSED
    assert paused.health == Health(5.0, 6.0, "x" * 200)
    before = await filled.webhooks.set_state("alice", made(1).id, WebhookState.ACTIVE)
    [active] = await filled.webhooks.list_webhooks()
    assert before == paused
    assert (active.state, active.health.failing_since) == (WebhookState.ACTIVE, None)
    assert active.health.succeeded == 5.0


async def test_each_change_is_in_the_log(filled: Store) -> None:
    """Other servers are told of all but how a webhook does."""
    await filled.webhooks.add(made(1))
    await filled.webhooks.set_state("alice", made(1).id, WebhookState.PAUSED)
    filled.webhooks.note_health(made(1).id, Health(5.0))
    await filled.webhooks.remove("alice", made(1).id)
    assert await kinds(filled) == 3 * [(Kind.WEBHOOK, "alice", made(1).id)]


async def test_goes_with_its_user(filled: Store) -> None:
    """A removed user's webhooks are gone, and nobody can add one for it."""
    await filled.webhooks.add(made(1))
    await filled.remove_user("alice")
    assert await filled.webhooks.list_webhooks() == ()
    with pytest.raises(StoreError, match="no user 'alice' any more"):
        await filled.webhooks.add(made(2))


async def test_proviso(filled: Store) -> None:
    """Nothing is changed if the proviso says no."""
    await filled.webhooks.add(made(1))

    def refuse(_: Connection) -> None:
        raise AccessDenied("no")

    with pytest.raises(AccessDenied):
        await filled.webhooks.add(made(2), refuse)
    with pytest.raises(AccessDenied):
        await filled.webhooks.remove("alice", made(1).id, refuse)
    with pytest.raises(AccessDenied):
        await filled.webhooks.set_state("alice", made(1).id, WebhookState.PAUSED, refuse)
    assert await filled.webhooks.list_webhooks() == (made(1),)
