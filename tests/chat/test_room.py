"""A room: who is there, what is heard, and how much of it."""

from __future__ import annotations

from pipe.chat.events import Event, Kind
from pipe.chat.room import BURST_LINES, MAX_ANNOUNCED, MAX_SPEAKERS, RATE_LINES, Room, Rooms
from pipe.chat.wire import write_lines
from pipe.language.names import TopicName
from pipe.stream.chunks import Chunk

from .people import Talker, member_of


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def test_comings_and_goings_are_told_to_the_others() -> None:
    """With their names; a new name too."""
    room = Room(Clock())
    alice, bob = Talker("alice").enter(room), Talker("bob", "b").enter(room)
    bob.nick = ""
    room.rename(bob, "bob~b")
    room.leave(bob, bob.member)
    room.leave(bob, bob.member)

    assert alice.told == [
        Event(Kind.CAME, "bob", "bob~b"),
        Event(Kind.RENAMED, "bob", "bob~b", "bob"),
        Event(Kind.LEFT, "bob", "bob"),
    ]
    assert bob.told == [Event(Kind.RENAMED, "bob", "bob~b", "bob")]
    assert room.people == (alice,)


def test_a_crowd_is_not_told() -> None:
    """Where that would grow with the square of its number."""
    room = Room(Clock())
    first, *_ = [Talker(f"user{number}").enter(room) for number in range(MAX_ANNOUNCED + 10)]

    assert len(first.told) == MAX_ANNOUNCED


def test_one_who_comes_and_goes_all_the_time_is_not_told() -> None:
    """What a user may say bounds that too."""
    room = Room(Clock())
    alice, bob = Talker("alice").enter(room), Talker("bob")
    for _ in range(1000):
        bob.enter(room)
        room.leave(bob, bob.member)

    assert len(alice.told) == BURST_LINES


def test_a_chunk_is_heard_once() -> None:
    """Whoever hands it in, it is the same events; the next one goes on in its line."""
    room, carol = Room(Clock()), member_of("carol")
    chunk = Chunk(b"one\ntw")
    heard = room.hear(chunk, carol)

    assert heard == (Event(Kind.SAID, "carol", "carol", "one"),)
    assert room.hear(chunk, carol) is heard
    assert room.hear(Chunk(b"o\n"), carol) == (Event(Kind.SAID, "carol", "carol", "two"),)


def test_flood_from_outside_is_left_out_and_counted() -> None:
    """Who cannot be slowed is not shown; others are; it goes on when there is room again."""
    clock = Clock()
    room, mallory = Room(clock), member_of("mallory")
    bob = Talker("bob").enter(room)
    heard = room.hear(Chunk(b"spam\n" * 10_000), mallory)

    assert len(heard) == BURST_LINES + 1
    assert heard[-1].text == "mallory sends too much: lines are left out"
    assert room.hear(Chunk(b"more\n"), mallory) == ()
    [said] = room.hear(Chunk(write_lines("bob", ["hello"])), bob.member)
    assert said.text == "hello"

    clock.now += BURST_LINES / RATE_LINES
    missed, said = room.hear(Chunk(b"sorry\n"), mallory)
    assert missed.text == f"{10_001 - int(BURST_LINES)} lines of mallory were left out"
    assert said.text == "sorry"


def test_sessions_of_a_user_share_what_it_may_say() -> None:
    """More of them say no more; it comes back with time."""
    clock = Clock()
    room = Room(clock)
    assert not room.delay("bob", int(BURST_LINES))
    wait = room.delay("bob", 1)
    assert wait == 1 / RATE_LINES
    assert not room.delay("alice", 1)
    clock.now += wait
    assert not room.delay("bob", 1)


def test_quiet_users_are_forgotten() -> None:
    """A room does not remember all who ever said something."""
    clock = Clock()
    room = Room(clock)
    for number in range(20 * MAX_SPEAKERS):
        clock.now += 1.0
        room.delay(f"user{number}", 1)

    assert room.counted <= MAX_SPEAKERS


def test_a_room_is_there_while_somebody_is_in_it() -> None:
    """The last one closes it."""
    rooms, name = Rooms(Clock()), TopicName("public", ("tea",))
    alice, bob = Talker("alice"), Talker("bob")
    room = rooms.enter(name, alice, alice.member)
    assert rooms.enter(name, bob, bob.member) is room
    rooms.leave(name, alice, alice.member)
    assert len(rooms) == 1
    rooms.leave(name, bob, bob.member)
    rooms.leave(name, bob, bob.member)
    assert not len(rooms)
