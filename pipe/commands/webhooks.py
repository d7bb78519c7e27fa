"""``webhooks`` and its parts: what topics get is sent to addresses on the web."""

from __future__ import annotations

import base64
import secrets
import time
from typing import TYPE_CHECKING

from pipe.commands.layout import date, json_lines, short_name, table
from pipe.errors import AccessDenied, Undelivered
from pipe.events.webhooks.posting import Result
from pipe.events.webhooks.signing import derive_secret, shown
from pipe.events.webhooks.targets import check_url, host_of
from pipe.language.names import escape, parse_topic
from pipe.language.webhook_requests import AddWebhook, ListWebhooks, RemoveWebhook, ResumeWebhook
from pipe.store.webhooks import Webhook, WebhookState

if TYPE_CHECKING:
    from pipe.commands.asker import Asker
    from pipe.events.webhooks.courier import Courier
    from pipe.language.webhook_requests import AboutWebhooks
    from pipe.rights.callers import Caller
    from pipe.service import Service

_ID_BYTES = 8


async def answer_about_webhooks(request: AboutWebhooks, service: Service, asker: Asker) -> str:
    """Answer a command about webhooks.

    Raises:
        PipeError: it cannot be carried out.
    """
    match request:
        case ListWebhooks():
            return await list_webhooks(service, asker.caller, as_json=request.json)
        case AddWebhook():
            return await add_webhook(service, asker, request)
        case RemoveWebhook():
            return await remove_webhook(service, asker.caller, request.webhook)
        case ResumeWebhook():
            return await resume_webhook(service, asker.caller, request.webhook)
        case _:
            return await test_webhook(service, asker.caller, request.webhook)


async def list_webhooks(service: Service, caller: Caller, *, as_json: bool) -> str:
    """Answer with a table, or with one JSON object per line."""
    stored = await service.store.webhooks.list_webhooks(caller.user)
    couriers = service.webhooks.of(caller.user)
    rows = [(one, couriers.get(one.id)) for one in stored]
    if as_json:
        return json_lines(_facts(*row) for row in rows)
    if not rows:
        ssh = service.ssh_command(caller.user)
        return f"no webhooks; make one: {ssh} webhooks add TOPIC https://HOST/PATH\n"
    return table(
        ("ID", "STATE", "LAST SENT", "WAITING", "EACH", "TOPIC", "TO", "NAME", "LAST PROBLEM"),
        [
            (
                one.id,
                _state(one, courier),
                date((courier or one).health.succeeded, "never"),
                str(courier.waiting if courier else 0),
                "line" if one.posting.value == "line" else "stream",
                short_name(one.topic, caller),
                host_of(one.url),
                escape(one.name) or "-",
                escape((courier or one).health.problem) or "-",
            )
            for one, courier in rows
        ],
        fold=5,
    )


async def add_webhook(service: Service, asker: Asker, request: AddWebhook) -> str:
    """Make a webhook, and answer with its secret: it is shown only this once.

    Raises:
        UsageError: the URL or the name of the topic is not valid.
        AccessDenied: the caller's webhooks may not read the topic.
        StoreError: the caller has too many.
    """
    user = asker.caller.user
    topic = parse_topic(request.topic, caller=user)
    url = check_url(request.url, service.webhooks.networks)
    if not service.webhooks.may_read(user, topic):
        raise AccessDenied(
            f"access denied: {topic} is not shared with you to read, or only with a key of yours"
        )
    webhook = Webhook(
        id=base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode()[:12].lower(),
        user=user,
        topic=topic,
        url=url,
        posting=request.posting,
        name=request.name,
        created=time.time(),
    )
    add = service.store.webhooks.add
    await service.guard.change(asker.caller, lambda proviso: add(webhook, proviso))
    await service.webhooks.follow(user)
    asker.session.announce(
        f"this secret signs what webhook {webhook.id} sends, and is shown only this once; "
        f"'webhooks test {webhook.id}' tries it"
    )
    return f"{shown(derive_secret(service.webhooks.shared.key, webhook.id))}\n"


async def remove_webhook(service: Service, caller: Caller, start: str) -> str:
    """Remove a webhook, and drop what waits for it.

    Raises:
        StoreError: none of the caller's begins so, or several do.
    """
    remove = service.store.webhooks.remove
    removed = await service.guard.change(
        caller, lambda proviso: remove(caller.user, start, proviso)
    )
    await service.webhooks.follow(caller.user)
    return f"removed webhook {removed.id}\n"


async def resume_webhook(service: Service, caller: Caller, start: str) -> str:
    """Let a webhook go on that was paused.

    Raises:
        StoreError: none of the caller's begins so, or several do.
    """
    set_state = service.store.webhooks.set_state
    before = await service.guard.change(
        caller,
        lambda proviso: set_state(caller.user, start, WebhookState.ACTIVE, proviso),
    )
    await service.webhooks.follow(caller.user)
    if before.state is WebhookState.ACTIVE:
        return f"webhook {before.id} was not paused\n"
    return f"webhook {before.id} goes on\n"


async def test_webhook(service: Service, caller: Caller, start: str) -> str:
    """Send a test, and answer with what came back.

    Raises:
        StoreError: none of the caller's begins so, or several do.
        Undelivered: the test has not arrived.
    """
    if caller.scope is not None:
        raise AccessDenied("access denied: a token is for topics, and tests no webhooks")
    service.access.require(caller)
    answer, seconds = await service.webhooks.test(caller.user, start)
    if answer.result is not Result.DELIVERED:
        raise Undelivered(f"the test has not arrived: {answer.text}")
    return f"{answer.text} after {seconds:.2f} seconds\n"


def _state(webhook: Webhook, courier: Courier | None) -> str:
    state: str = webhook.state.value
    health = (courier or webhook).health
    fails = health.failing_since is not None and webhook.state is WebhookState.ACTIVE
    return "failing" if fails else state


def _facts(webhook: Webhook, courier: Courier | None) -> dict[str, object]:
    health = (courier or webhook).health
    return {
        "id": webhook.id,
        "topic": str(webhook.topic),
        "url": webhook.url,
        "frame": webhook.posting.value,
        "name": webhook.name,
        "state": _state(webhook, courier),
        "created": webhook.created,
        "succeeded": health.succeeded,
        "failing_since": health.failing_since,
        "problem": health.problem or None,
        "waiting": courier.waiting if courier else 0,
        "dropped": courier.dropped if courier else 0,
        "recent": [
            {
                "time": one.time,
                "message": one.message,
                "result": one.answer.result.value,
                "text": one.answer.text,
                "seconds": round(one.seconds, 3),
            }
            for one in (courier.recent if courier else ())
        ],
    }
