"""``hooks``, ``hooks add``, ``hooks rm``, ``rotate``, ``test``: what other services may publish."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipe.commands.layout import count, date, json_lines, table
from pipe.commands.login import web_url
from pipe.errors import AccessDenied, QuotaExceeded, Unreachable
from pipe.events.hooks.deliveries import LIMIT, Result
from pipe.events.hooks.hub import make_id, make_secret
from pipe.language.durations import format_duration
from pipe.language.hook_requests import AddHook, HookKind, ListHooks, RemoveHook, RotateHook
from pipe.language.names import PUBLIC, escape, parse_topic
from pipe.rights.callers import NO_BACKING, Caller
from pipe.rights.grants import Operation
from pipe.store.hooks import NewHook

if TYPE_CHECKING:
    from pipe.commands.asker import Asker
    from pipe.events.hooks.deliveries import Delivery
    from pipe.language.hook_requests import AboutHooks
    from pipe.service import Service

_ADVICE = {
    HookKind.DISTRIBUTION: "in the registry's notifications, as an endpoint's url, and in its"
    " headers as Authorization: [Bearer SECRET]",
    HookKind.GITHUB: "at GitHub as Payload URL and Secret, with the content type application/json"
    " and the events Packages and Registry packages",
    HookKind.FORGEJO: "at Forgejo or Gitea as target URL and secret, with the event Package",
    HookKind.GITLAB: "at GitLab as URL and secret token",
    HookKind.HARBOR: "at Harbor as endpoint URL and auth header, with the event Artifact pushed",
    HookKind.DOCKERHUB: "at Docker Hub as webhook URL; the secret is in it",
    HookKind.QUAY: "at Quay as webhook URL of a notification of pushes; the secret is in it",
    HookKind.STANDARD: "where it asks for the URL and the secret of a webhook",
    HookKind.GENERIC: "as in: curl -H 'Authorization: Bearer SECRET' -d hello URL; or, for who can"
    " send no header, URL/SECRET",
}
"""Where to give the URL and the secret."""


async def answer_about_hooks(request: AboutHooks, service: Service, asker: Asker) -> str:
    """Answer a command about hooks.

    Raises:
        PipeError: it cannot be carried out.
    """
    match request:
        case ListHooks():
            return await list_hooks(service, asker.caller, as_json=request.json)
        case AddHook():
            return await add_hook(service, asker, request)
        case RemoveHook():
            return await remove_hook(service, asker.caller, request.hook)
        case RotateHook():
            return await rotate_hook(service, asker, request.hook)
        case _:
            return await test_hook(service, asker.caller, request.hook)


async def list_hooks(service: Service, caller: Caller, *, as_json: bool) -> str:
    """Answer with a table, or with one JSON object per line."""
    hooks = await service.store.hooks.list_hooks(caller.user)
    last = {hook.id: service.hooks.deliveries.of(hook.id) for hook in hooks}
    if as_json:
        return json_lines(
            {
                "id": hook.id,
                "topic": hook.target,
                "kind": hook.kind.value,
                "name": hook.name,
                "hold": hook.hold,
                "created": hook.created,
                "used": hook.used,
                "deliveries": [_as_json(one) for one in last[hook.id]],
            }
            for hook in hooks
        )
    if not hooks:
        ssh = service.ssh_command(caller.user)
        return f"no hooks; make one: {ssh} hooks add TOPIC --kind KIND\n"
    return table(
        ("ID", "KIND", "TOPIC", "HOLD", "LAST USED", "LAST DELIVERY", "NAME"),
        [
            (
                hook.id,
                hook.kind.value,
                hook.target,
                format_duration(hook.hold) if hook.hold else "-",
                date(hook.used, "never"),
                _told(last[hook.id]),
                escape(hook.name) or "-",
            )
            for hook in hooks
        ],
        fold=4,
    )


async def add_hook(service: Service, asker: Asker, request: AddHook) -> str:
    """Make a hook, and answer with its URL and its secret: they are shown only this once.

    Raises:
        WebOff: nobody could deliver anything.
        BadName: the topic is none.
        AccessDenied: the caller may not write there, or not make what outlives the login.
        StoreError: the caller has too many.
    """
    caller = asker.caller
    url = web_url(service)
    owner, path = _find_target(service, caller, request.topic)
    if caller.backing == NO_BACKING:
        raise AccessDenied(
            "access denied: your certificate holds you to an address or a command, and nothing "
            "would hold a hook to it"
        )
    shown, stored = make_secret(request.kind)
    hook = NewHook(
        make_id(), caller.user, owner, path, request.kind, stored, request.hold, request.name
    )
    await service.guard.change(caller, lambda proviso: service.store.hooks.add(hook, proviso))
    return _show(asker, hook, url, shown)


async def remove_hook(service: Service, caller: Caller, start: str) -> str:
    """Remove a hook.

    Raises:
        StoreError: none of the caller's begins so, or several do.
    """
    hook = await service.guard.change(
        caller, lambda proviso: service.store.hooks.remove(caller.user, start, proviso)
    )
    service.hooks.deliveries.forget(hook.id)
    return f"removed hook {hook.id}\nwhat is delivered to it from now on is refused\n"


async def rotate_hook(service: Service, asker: Asker, start: str) -> str:
    """Give a hook another secret, and answer with it.

    Raises:
        WebOff: nobody could deliver anything.
        StoreError: none of the caller's begins so, or several do.
    """
    url = web_url(service)
    user, hooks = asker.caller.user, service.store.hooks
    hook = await hooks.find_own(user, start)
    shown, stored = make_secret(hook.kind)
    await service.guard.change(
        asker.caller, lambda proviso: hooks.rotate(user, hook.id, stored, proviso)
    )
    return _show(asker, hook, url, shown)


async def test_hook(service: Service, caller: Caller, start: str) -> str:
    """Publish a test event by a hook, and say to how many it went.

    Raises:
        AccessDenied: the caller may not write there any more.
        QuotaExceeded: too much waits already.
        Unreachable: another worker does not say.
        StoreError: none of the caller's begins so, or several do.
    """
    hook = await service.store.hooks.find_own(caller.user, start)
    topic, result, readers = await service.hooks.test(hook, time.time())
    match result:
        case Result.PUBLISHED:
            return f"published a test event on {topic}: {count(readers, 'reader')} got it\n"
        case Result.UNHEARD:
            return f"published a test event on {topic}, and nobody reads it now\n"
        case Result.HELD if not hook.hold:  # others are in the way, or the server is busy
            return f"a test event is on its way to {topic}\n"
        case Result.HELD:
            hold = format_duration(hook.hold)
            return f"a test event waits on {topic} for a reader, {hold} at most\n"
        case Result.FULL:
            raise QuotaExceeded(f"too many events wait for readers of {topic} already", LIMIT)
        case Result.UNANSWERED:
            raise Unreachable(
                f"the worker that has {topic} does not answer, so the test event may be published"
                " or not: try again"
            )
        case _:
            raise AccessDenied(f"access denied: you may not write to {topic or hook.target}")


def _find_target(service: Service, caller: Caller, text: str) -> tuple[str, str]:
    """Read a topic or a space, and check that the caller may write there.

    The caller's key does not count, as the hook outlives it.

    Raises:
        BadName: it is none.
        AccessDenied: the caller may not.
    """
    is_space = text.endswith("/")
    topic = parse_topic(f"{text}x" if is_space else text, caller=caller.user)
    path = "/".join(topic.path)
    if is_space:
        if topic.owner not in {caller.user, PUBLIC} and not caller.admin:
            raise AccessDenied(f"access denied: only {topic.owner} has all of {topic.owner}/")
        return topic.owner, path.removesuffix("x")
    user = Caller(caller.user, "", caller.admin)
    if not service.access.decide(user, topic, Operation.WRITE).allowed:
        raise AccessDenied(
            f"access denied: {topic} is not shared with you to write; a hook needs a grant to you,"
            " not to your key"
        )
    return topic.owner, path


def _show(asker: Asker, hook: NewHook, url: str, secret: str) -> str:
    """Answer with a hook's URL and secret, and say what to do with them."""
    asker.session.announce(
        f"this is the only time that the secret is shown; 'hooks rm {hook.id}' ends it"
    )
    asker.session.announce(f"give it {_ADVICE[hook.kind]}")
    address = f"{url}/hook/{hook.id}"
    if hook.kind.has_secret_in_path:
        return f"{address}/{secret}\n"
    return f"{address}\n{secret}\n"


def _as_json(delivery: Delivery) -> dict[str, object]:
    return {
        "time": delivery.time,
        "result": delivery.result.value,
        "size": delivery.size,
        "events": delivery.events,
        "readers": delivery.readers,
        "detail": delivery.detail,
        "times": delivery.times,
    }


def _told(deliveries: tuple[Delivery, ...]) -> str:
    """What came of the last one since the start of the server."""
    if not deliveries:
        return "-"
    last = deliveries[0]
    times = f" {last.times} times" if last.times > 1 else ""
    return f"{last.result.value}{times}"
