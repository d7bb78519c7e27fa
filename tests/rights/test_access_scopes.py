"""Scopes and the judge: a token never gives more than its user has, and never more than it says."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import AccessDenied
from pipe.language.names import EVERYONE, TopicName
from pipe.rights.access import OVER_TEXT, WITHDRAWN_TEXT, Access, Loss, Rule
from pipe.rights.callers import Caller
from pipe.rights.grants import Grant, Operation
from pipe.rights.scopes import Reach, Scope

OPERATIONS = [Operation.READ, Operation.WRITE, Operation.BOTH]
NAMES = [
    TopicName(owner, path)
    for owner, path in product(["alice", "bob", "public"], [("x",), ("y",), ("x", "y")])
]
BUILD = NAMES[0]
WORDS = st.lists(
    st.sampled_from(["x", "*", "**", "alice/**", "bob/x", "bob/*", "public/x", "public/**", "*/x"]),
    max_size=3,
)
SCOPES = st.builds(
    lambda reads, writes: Scope(
        Reach.parse(reads, owner="alice"), Reach.parse(writes, owner="alice")
    ),
    WORDS,
    WORDS,
)
GRANTS = st.lists(
    st.builds(
        Grant,
        topic=st.sampled_from([name for name in NAMES if name.owner == "bob"]),
        grantee=st.sampled_from(["alice", "SHA256:a", EVERYONE]),
        operation=st.sampled_from(OPERATIONS),
        until=st.sampled_from([None, 5.0]),
        granted_by=st.just("bob"),
        created=st.just(0.0),
    ),
    max_size=4,
)


def scoped(read: str = "", write: str = "", *, admin: bool = False, until: float = 1e9) -> Caller:
    """Alice, by a token of hers."""
    scope = Scope(
        Reach.parse(read.split(), owner="alice"), Reach.parse(write.split(), owner="alice")
    )
    return Caller("alice", "SHA256:a", admin, lent=True, scope=scope, token="tok", until=until)


@given(SCOPES, GRANTS, st.booleans(), st.sampled_from([0.0, 9.0]))
def test_both_must_agree(scope: Scope, grants: list[Grant], admin: bool, now: float) -> None:
    """A token may do exactly what both its user and its scope allow, and by the same rule."""
    access = Access(lambda: now)
    access.load(grants)
    user = Caller("alice", "SHA256:a", admin)
    bearer = Caller("alice", "SHA256:a", admin, scope=scope, token="tok", until=1e9)
    for topic, operation in product(NAMES, OPERATIONS):
        whole, part = (access.decide(one, topic, operation) for one in (user, bearer))
        reached = scope.allows(operation, topic)

        assert part.allowed is (whole.allowed and reached)
        assert part.rule is (whole.rule if reached else Rule.SCOPE)
        assert access.sees(bearer, topic) <= access.sees(user, topic)


def test_without_admin_no_admin() -> None:
    """Others' spaces are only for what an admin made as one, and only within its scope."""
    everything = scoped("**", "**")
    assert not Access().decide(everything, TopicName("bob", ("x",))).allowed
    assert Access().decide(scoped("**", admin=True), TopicName("bob", ("x",))).allowed
    assert not Access().decide(scoped("x", admin=True), TopicName("bob", ("x",))).allowed


@pytest.mark.parametrize("operation", OPERATIONS)
def test_denial_says_that_it_is_the_token(operation: Operation) -> None:
    """The words are about the token, also where the topic is the user's own."""
    access = Access()
    with pytest.raises(AccessDenied, match=f"your token does not reach alice/x to {operation}"):
        access.enter(scoped("y", "y"), BUILD, operation, exists=False)


def test_pattern_takes_in_what_the_scope_reads() -> None:
    """A reader on a wide pattern gets the topics of its scope, and no others."""
    access = Access()
    admits = access.enter_pattern(scoped("x y", "*"))
    assert [name for name in NAMES if admits(name)] == [NAMES[0], NAMES[1]]


@pytest.mark.parametrize(("read", "write"), [("x", ""), ("", "x"), ("x", "y"), ("*", "y*")])
def test_list_gives_no_more_than_the_token_has(read: str, write: str) -> None:
    """Those on a list may read and write, so whoever brings it must reach both."""
    access = Access()
    operation = Operation.READ if read else Operation.WRITE
    with pytest.raises(AccessDenied, match="leave out --access"):
        access.enter(scoped(read, write), BUILD, operation, ("bob",), exists=False)
    assert access.shared_by_sessions(BUILD) == frozenset()
    access.enter(scoped("x", "x"), BUILD, operation, ("bob",), exists=False)
    assert access.shared_by_sessions(BUILD) == {"bob"}


def test_end_of_a_grant_ends_a_token_too() -> None:
    """What a token does by a grant of its user's ends with the grant."""
    lost: list[Loss] = []
    access = Access()
    topic = TopicName("bob", ("x",))
    access.load([Grant(topic, "alice", Operation.READ, None, "bob", 0.0)])
    access.enter(scoped("bob/x"), topic, Operation.READ, exists=False, lost=lost.append)
    access.load([])
    assert lost == [Loss.REVOKED]


def test_removal_ends_the_logins_of_a_token() -> None:
    """Those who came with it may do no more; others, and who comes later, may."""
    access = Access()
    first, second, other = scoped("x"), scoped("x"), Caller("alice", "SHA256:a")
    for caller in (first, second):
        access.logged_in(caller)
    access.logged_out(second)
    access.end_token("tok")

    with pytest.raises(AccessDenied, match=WITHDRAWN_TEXT):
        access.require(first)
    assert not access.why_barred(second)
    assert not access.why_barred(other)
    access.logged_out(first)
    assert not access.why_barred(first)  # nothing is remembered


@pytest.mark.parametrize("fingerprint", ["", "SHA256:a"])
def test_removal_of_user_or_key_ends_tokens(fingerprint: str) -> None:
    """A token's login is one of the key that made it."""
    access = Access()
    caller = scoped("x")
    access.logged_in(caller)
    access.bar("alice", fingerprint)
    assert access.why_barred(caller)
    assert not access.why_barred(scoped("x"))


def test_time_of_a_token() -> None:
    """When it is over its logins are, and the end is known beforehand, beside those of grants."""
    now = 0.0
    access = Access(lambda: now)
    caller, later = scoped("x", until=5.0), scoped("x", until=7.0)
    access.logged_in(caller)
    access.logged_in(later)
    topic = TopicName("bob", ("x",))
    access.load([Grant(topic, "alice", Operation.READ, 4.0, "bob", 0.0)])
    assert access.next_end == 4.0
    now = 4.0
    assert not access.expire()
    assert access.next_end == 5.0
    now = 5.0
    assert access.expire()

    assert access.why_barred(caller) == OVER_TEXT
    assert not access.why_barred(later)
    assert access.next_end == 7.0
