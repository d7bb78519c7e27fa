"""Accounts: users and their public keys, in SQLite by default.

    records     what the store hands out: `User`, `Key`, `Token`
    keys        which public keys may log in, and how one is read from text
    tables      the tables and their constraints
    schema      creating and migrating them; ``migrations`` has the steps
    database    connections, transactions, and a stamp that shows changes
    cache       what recent lookups found
    changes     a log of what was taken away
    grants      `GrantStore`: lasting grants
    tokens      `TokenStore`: tokens, browser sessions, links and login codes
    hooks       `HookStore`: where other services tell what happened
    webhooks    `WebhookStore`: where what topics get is sent
    monitors    `MonitorStore`: what is expected of topics, and how that went
    homes       `HomeStore`: where topics live, among several machines
    uses        times of last use, stored together
    rows        the single steps behind `accounts`
    accounts    `Store`: what can be asked and changed

Names, keys and errors come from here; `pipe.rights.access` decides who may do what.
"""

from __future__ import annotations

from pipe.store.accounts import Store
from pipe.store.grants import GrantStore
from pipe.store.hooks import Hook, HookStore, NewHook
from pipe.store.keys import check_key_type, read_public_key
from pipe.store.monitors import MonitorStore
from pipe.store.records import (
    Key,
    Login,
    NewKey,
    NewToken,
    Token,
    TokenKind,
    User,
    is_last,
)
from pipe.store.tokens import TokenStore

__all__ = [
    "GrantStore",
    "Hook",
    "HookStore",
    "Key",
    "Login",
    "MonitorStore",
    "NewHook",
    "NewKey",
    "NewToken",
    "Store",
    "Token",
    "TokenKind",
    "TokenStore",
    "User",
    "check_key_type",
    "is_last",
    "read_public_key",
]
