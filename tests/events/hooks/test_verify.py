"""The proofs of all kinds: what is taken, and that nothing else is."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from pipe.events.hooks.hub import make_secret
from pipe.events.hooks.verify import MAX_SIGNATURES, TOLERANCE_SECONDS, Proof
from pipe.language.hook_requests import HookKind

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_795_929_360.0
BODY = b'{"a": 1}'
SIGNED = [kind for kind in HookKind if kind.is_signed]


def holds(
    kind: HookKind | None,
    stored: str,
    headers: Mapping[str, str],
    *,
    body: bytes = BODY,
    shown: str = "",
    now: float = NOW,
) -> bool:
    """Whether a delivery is taken."""
    proof = Proof(kind, stored, headers, shown, now)
    proof.update(body)
    return proof.holds()


def sign(kind: HookKind, secret: str, body: bytes = BODY) -> tuple[dict[str, str], str]:
    """What a good sender shows: headers, and a part of the path."""
    mac = hmac.digest(secret.encode(), body, "sha256").hex()
    match kind:
        case HookKind.GITHUB:
            return {"X-Hub-Signature-256": f"sha256={mac}"}, ""
        case HookKind.FORGEJO:
            return {"X-Forgejo-Signature": mac, "X-Gitea-Signature": mac}, ""
        case HookKind.STANDARD:
            time = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
            signature = Webhook(secret).sign("msg_1", time, body.decode())
            numbers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(NOW))}
            return {**numbers, "webhook-signature": signature}, ""
        case HookKind.GITLAB:
            return {"X-Gitlab-Token": secret}, ""
        case HookKind.HARBOR:
            return {"Authorization": secret}, ""
        case HookKind.DOCKERHUB | HookKind.QUAY:
            return {}, secret
        case _:
            return {"Authorization": f"Bearer {secret}"}, ""


@pytest.mark.parametrize("kind", HookKind)
def test_good_senders_are_taken(kind: HookKind) -> None:
    """What the sender of a kind shows proves its delivery, in whatever pieces the body comes."""
    secret, stored = make_secret(kind)
    headers, shown = sign(kind, secret)
    assert holds(kind, stored, headers, shown=shown)
    proof = Proof(kind, stored, headers, shown, NOW)
    for byte in BODY:
        proof.update(bytes([byte]))
    assert proof.holds()


@pytest.mark.parametrize("kind", HookKind)
def test_others_secrets_are_not(kind: HookKind) -> None:
    """Neither another hook's secret, nor none, nor what is stored, proves anything."""
    _, stored = make_secret(kind)
    headers, shown = sign(kind, make_secret(kind)[0])
    assert not holds(kind, stored, headers, shown=shown)
    assert not holds(kind, stored, {})
    if not kind.is_signed:
        headers, shown = sign(kind, stored)
        assert not holds(kind, stored, headers, shown=shown)


@pytest.mark.parametrize("kind", HookKind)
def test_no_hook_has_no_proof(kind: HookKind) -> None:
    """Where there is no hook, nothing is taken, not even what fits an empty secret."""
    headers, shown = sign(kind, make_secret(kind)[0])
    assert not holds(None, "", headers, shown=shown)
    assert not holds(None, "", {})


@pytest.mark.parametrize("kind", SIGNED)
def test_changed_bodies_are_not_taken(kind: HookKind) -> None:
    """A signature is of the body as it came."""
    secret, stored = make_secret(kind)
    headers, shown = sign(kind, secret)
    assert not holds(kind, stored, headers, shown=shown, body=BODY + b" ")


@pytest.mark.parametrize("kind", HookKind)
def test_only_the_own_proof_counts(kind: HookKind) -> None:
    """The secret, wherever another kind would show it, proves nothing, with few exceptions."""
    secret, stored = make_secret(kind)
    for other in HookKind:
        if other is kind or HookKind.STANDARD in {kind, other}:
            continue
        headers, shown = sign(other, secret)
        same = bool(headers) and headers == sign(kind, secret)[0]
        lenient = (kind, other) in {
            (HookKind.HARBOR, HookKind.DISTRIBUTION),
            (HookKind.HARBOR, HookKind.GENERIC),
            (HookKind.GENERIC, HookKind.DOCKERHUB),
            (HookKind.GENERIC, HookKind.QUAY),
            (HookKind.DOCKERHUB, HookKind.QUAY),
            (HookKind.QUAY, HookKind.DOCKERHUB),
        }
        assert holds(kind, stored, headers, shown=shown) == (same or lenient), other


def test_gitea_is_forgejo() -> None:
    """Gitea's own header is enough."""
    secret, stored = make_secret(HookKind.FORGEJO)
    headers, _ = sign(HookKind.FORGEJO, secret)
    del headers["X-Forgejo-Signature"]
    assert holds(HookKind.FORGEJO, stored, headers)


def standard(number: str, time: str, body: bytes, secret: str) -> dict[str, str]:
    """The headers of a Standard Webhook, signed by hand."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{number}.{time}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return {
        "webhook-id": number,
        "webhook-timestamp": time,
        "webhook-signature": f"v1,{signature}",
    }


def test_standard_webhooks_are_from_now() -> None:
    """A time that is too old, too new or none is refused, however well it is signed."""
    secret, stored = make_secret(HookKind.STANDARD)

    def taken(time: str) -> bool:
        return holds(HookKind.STANDARD, stored, standard("a", time, BODY, secret))

    edge = int(TOLERANCE_SECONDS)
    assert taken(str(int(NOW) - edge))
    assert taken(str(int(NOW) + edge))
    assert not taken(str(int(NOW) - edge - 1))
    assert not taken(str(int(NOW) + edge + 1))
    for bad in ("", "now", "-1", "1e9", f"{int(NOW)}.0", "\u0661" * 10, "9" * 4000):
        assert not taken(bad), bad


def test_standard_webhooks_have_one_meaning() -> None:
    """What is signed cannot be read as another ID, time and body."""
    secret, stored = make_secret(HookKind.STANDARD)
    time = str(int(NOW))
    headers = standard("a", time, f"{time}.{{}}".encode(), secret)
    assert holds(HookKind.STANDARD, stored, headers, body=f"{time}.{{}}".encode())
    assert not holds(HookKind.STANDARD, stored, {**headers, "webhook-id": f"a.{time}"}, body=b"{}")
    assert not holds(HookKind.STANDARD, stored, standard("", time, BODY, secret))


def test_standard_webhooks_may_have_several_signatures() -> None:
    """While a sender renews its secret it signs with both; of other versions none counts."""
    secret, stored = make_secret(HookKind.STANDARD)
    headers = standard("a", str(int(NOW)), BODY, secret)
    good = headers["webhook-signature"]

    def taken(signatures: str) -> bool:
        return holds(HookKind.STANDARD, stored, {**headers, "webhook-signature": signatures})

    assert taken(f"v1,AAAA {good}")
    assert not taken(good.replace("v1,", "v2,"))
    assert not taken(good.removeprefix("v1,"))
    assert not taken("v1,AAAA " * MAX_SIGNATURES + good)


@given(
    st.sampled_from([*HookKind, None]),
    st.dictionaries(
        st.sampled_from(
            [
                *("Authorization", "X-Gitlab-Token", "X-Hub-Signature-256"),
                *("X-Gitea-Signature", "webhook-id", "webhook-timestamp", "webhook-signature"),
            ]
        ),
        st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")),
    ),
    st.text(),
)
def test_whatever_is_shown_is_only_wrong(
    kind: HookKind | None, headers: dict[str, str], shown: str
) -> None:
    """No header and no path makes it fail, or is taken."""
    assert not holds(kind, make_secret(kind or HookKind.GITHUB)[1], headers, shown=shown)


@pytest.mark.parametrize("kind", HookKind)
def test_secrets_are_stored_as_they_have_to_be(kind: HookKind) -> None:
    """Of a secret that is shown only its SHA-256 is stored; one to sign with is stored itself."""
    secret, stored = make_secret(kind)
    if kind.is_signed:
        assert stored == secret
    else:
        assert stored == hashlib.sha256(secret.encode()).hexdigest()
    assert len(stored) <= 64
    assert make_secret(kind)[0] != secret
