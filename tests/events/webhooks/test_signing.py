"""Signatures: the library that receivers use verifies them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pipe.events.webhooks.signing import derive_secret, shown, signed_headers

SECRET = derive_secret(b"k" * 32, "abcdefghijkl")


def signed(body: bytes) -> dict[str, str]:
    """The headers of a body that is sent now."""
    return signed_headers(SECRET, "msg_1", int(time.time()), body)


@given(body=st.text())
def test_receivers_verify(body: str) -> None:
    """A receiver that was given the secret, as it is shown, accepts any text."""
    Webhook(shown(SECRET)).verify(body, signed(body.encode()), json_parse=False)


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_counts(header: str) -> None:
    """A header that was changed on the way proves nothing any more."""
    headers = signed(b"hello")
    digit = headers[header][-5]
    headers[header] = headers[header][:-5] + ("1" if digit != "1" else "2") + headers[header][-4:]
    with pytest.raises(WebhookVerificationError):
        Webhook(shown(SECRET)).verify("hello", headers, json_parse=False)


def test_body_counts() -> None:
    """Neither does a body that was changed."""
    with pytest.raises(WebhookVerificationError):
        Webhook(shown(SECRET)).verify("hellp", signed(b"hello"), json_parse=False)


def test_each_webhook_has_its_own_secret() -> None:
    """The secret depends on the server's key and on the webhook, and on nothing else."""
    made = {derive_secret(key, name) for key in (b"a" * 32, b"b" * 32) for name in ("x", "y")}
    assert len(made) == 4
    assert derive_secret(b"a" * 32, "x") in made
    assert all(len(one) == 32 for one in made)
