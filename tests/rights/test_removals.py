"""Access after an account or key was removed, for its old holder and for its next one."""

from __future__ import annotations

import pytest

from pipe.errors import AccessDenied
from pipe.language.names import parse_topic
from pipe.rights.access import SPARED_BARS, Access, Loss
from pipe.rights.callers import Caller
from tests.rights.people import ALICE, BOB, BUILD, CAROL, CLUB, READ, Visit, grant


@pytest.mark.parametrize("gone", [BOB.user, BOB.fingerprint])
def test_name_or_key_that_is_gone_leaves_nothing(access: Access, gone: str) -> None:
    """Whoever gets the name or key next inherits no grant and is on no list."""
    access.set_grants(BUILD, [grant(gone)], Loss.REVOKED)
    Visit(access, ALICE, BUILD, READ, (gone,))
    Visit(access, ALICE, CLUB, READ, (gone,), exists=False)
    visits = [Visit(access, BOB, BUILD), Visit(access, BOB, CLUB)]
    access.forget(gone)

    assert [visit.losses for visit in visits] == [[Loss.REMOVED]] * 2
    assert not access.decide(BOB, BUILD).allowed
    assert not access.decide(BOB, CLUB).allowed
    assert access.granted_to(BOB) == []


def test_user_who_is_gone_has_given_nothing(access: Access) -> None:
    """The grants of a user go with the user."""
    access.set_grants(BUILD, [grant("bob"), grant("carol")], Loss.REVOKED)
    visit = Visit(access, BOB, BUILD)
    access.forget("alice")

    assert visit.losses == [Loss.REMOVED]
    assert access.granted_by("alice") == []
    assert access.granted_to(BOB) == []


@pytest.mark.parametrize("fingerprint", [BOB.fingerprint, ""])
def test_barred_are_those_who_logged_in_before(access: Access, fingerprint: str) -> None:
    """Who logged in before the key was removed may do nothing; who does after it was, may."""
    before = Caller(BOB.user, BOB.fingerprint)
    access.bar(BOB.user, fingerprint)
    after = Caller(BOB.user, BOB.fingerprint)
    own = parse_topic("own", caller="bob")
    with pytest.raises(AccessDenied, match="was removed"):
        access.enter(before, own, READ, exists=False)
    with pytest.raises(AccessDenied, match="was removed"):
        access.enter_pattern(before)
    access.enter(after, own, READ, exists=False)

    assert not access.why_barred(Caller("bob2", BOB.fingerprint))
    assert not access.why_barred(CAROL)


def log_in_and_remove(access: Access, number: int) -> None:
    """Add a key, prove it, remove it; its login is over then."""
    caller = Caller(BOB.user, f"SHA256:{number:043}")
    access.bar(BOB.user, caller.fingerprint)
    assert access.why_barred(caller)


def test_removals_that_concern_nobody_are_forgotten(access: Access) -> None:
    """Keys that come and go leave nothing behind, though their user stays logged in."""
    for number in range(20 * SPARED_BARS):
        log_in_and_remove(access, number)
        assert len(access._barred) <= SPARED_BARS + 1  # noqa: SLF001
    assert not access.why_barred(BOB)


def test_removals_of_users_are_forgotten(access: Access) -> None:
    """So do accounts that come and go."""
    for number in range(20 * SPARED_BARS):
        access.bar(f"user{number}")
        assert len(access._barred) <= SPARED_BARS + 1  # noqa: SLF001


@pytest.mark.parametrize("fingerprint", [BOB.fingerprint, ""])
def test_no_removal_is_forgotten_that_concerns_somebody(access: Access, fingerprint: str) -> None:
    """Whoever was removed stays so while the login lives, however many others are."""
    before = [Caller(BOB.user, BOB.fingerprint) for _ in range(3)]
    access.bar(BOB.user, fingerprint)
    after = Caller(BOB.user, BOB.fingerprint)
    for number in range(4 * SPARED_BARS):
        log_in_and_remove(access, number)
        assert all(map(access.why_barred, before))
        assert not access.why_barred(after)
        if number % SPARED_BARS == 0 and len(before) > 1:
            before.pop()


def test_no_removal_is_forgotten_while_a_login_is_judged(access: Access) -> None:
    """A key that is removed while a login with it is under way is one of that login."""
    attempt = Caller(BOB.user, "")
    for number in range(4 * SPARED_BARS):
        access.bar(BOB.user, f"SHA256:{number:043}")
    for number in range(4 * SPARED_BARS):
        assert access.why_barred(Caller(BOB.user, f"SHA256:{number:043}", login=attempt.login))
    del attempt
    for number in range(8 * SPARED_BARS):
        log_in_and_remove(access, number)
    assert len(access._barred) <= SPARED_BARS + 1  # noqa: SLF001


def test_removals_of_a_crowd_are_all_remembered(access: Access) -> None:
    """As many removals are kept as there are logins that they concern."""
    crowd = [Caller(BOB.user, f"SHA256:{number:043}") for number in range(4 * SPARED_BARS)]
    for one in crowd:
        access.bar(BOB.user, one.fingerprint)
    assert all(map(access.why_barred, crowd))
