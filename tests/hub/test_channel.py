"""Messages between hub and worker."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from pipe.hub.channel import PIECE_BYTES, Channel, Lost, make_pair, receive_first

if TYPE_CHECKING:
    from pipe.hub.channel import Message


class End:
    """One end of a channel, which keeps what it receives."""

    def __init__(self, end: socket.socket) -> None:
        self.received: asyncio.Queue[tuple[Message, socket.socket | None]] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.channel = Channel(
            end, lambda *message: self.received.put_nowait(message), self.lost.set
        )


def make_ends() -> tuple[End, End]:
    """Both ends."""
    first, second = make_pair()
    return End(first), End(second)


async def test_messages_of_any_size_come_in_order() -> None:
    """A message longer than the socket takes at once is whole, and what follows comes after it."""
    first, second = make_ends()
    texts = ["short", "x" * (20 * PIECE_BYTES + 1), "é" * PIECE_BYTES, "end"]
    for text in texts:
        first.channel.send({"text": text})
    assert first.channel.full, "the socket has taken all at once"
    found = [(await second.received.get())[0]["text"] for _ in texts]
    assert found == texts
    await first.channel.wait_sent()
    first.channel.close()
    second.channel.close()


async def test_answer_that_does_not_come() -> None:
    """Who asks with some patience is told; an answer that comes later is nobody's."""
    first, second = make_ends()
    with pytest.raises(Lost):
        await first.channel.ask({"text": "hello?"}, patience=0.001)
    question, _ = await second.received.get()
    second.channel.answer(question, "late")
    asking = asyncio.ensure_future(first.channel.ask({"text": "and now?"}, patience=60))
    question, _ = await second.received.get()
    second.channel.answer(question, "here")
    assert await asking == "here"
    first.channel.close()
    second.channel.close()


async def test_descriptor_comes_with_its_message() -> None:
    """The other end has the same socket; this one's copy is closed, behind a long message too."""
    first, second = make_ends()
    ours, theirs = socket.socketpair()
    first.channel.send({"text": "x" * (20 * PIECE_BYTES)})
    first.channel.send({"text": "with"}, theirs)
    assert (await second.received.get())[1] is None
    message, received = await second.received.get()
    assert message == {"text": "with"}
    assert received
    assert theirs.fileno() == -1
    received.sendall(b"hello")
    assert ours.recv(5) == b"hello"
    for end in (ours, received):
        end.close()
    first.channel.close()
    second.channel.close()


async def test_question_is_answered() -> None:
    """Each question gets its own answer, in whatever order they come."""
    first, second = make_ends()
    asked = [asyncio.ensure_future(first.channel.ask({"n": n})) for n in range(3)]
    questions = [(await second.received.get())[0] for _ in asked]
    for question in reversed(questions):
        second.channel.answer(question, question["n"] * 10)
    assert await asyncio.gather(*asked) == [0, 10, 20]
    first.channel.close()
    second.channel.close()


async def test_lost_end() -> None:
    """Who waits for an answer is told; what is sent later goes nowhere, its descriptor too."""
    first, second = make_ends()
    asked = asyncio.ensure_future(first.channel.ask({}))
    await second.received.get()
    second.channel.close()
    with pytest.raises(Lost):
        await asked
    await first.lost.wait()
    with pytest.raises(Lost):
        await first.channel.ask({})
    connection, other = socket.socketpair()
    first.channel.send({}, connection)
    assert other.recv(1) == b""
    other.close()
    assert not second.lost.is_set()


async def test_all_is_read_of_who_is_gone() -> None:
    """What the other end has said before it went arrives, although it has read nothing of ours."""
    first, theirs = make_pair()
    hub = End(first)
    for number in range(3):
        theirs.send(b'\0{"n":%d}' % number)
    hub.channel.send({"text": "unread"})
    theirs.close()
    hub.channel.send({"text": "to nobody"})
    await hub.lost.wait()
    assert [hub.received.get_nowait()[0]["n"] for _ in range(3)] == [0, 1, 2]


async def test_descriptor_for_who_is_gone_is_closed() -> None:
    """What cannot be sent any more is let go of."""
    first, theirs = make_pair()
    hub = End(first)
    theirs.close()
    connection, other = socket.socketpair()
    hub.channel.send({}, connection)
    assert other.recv(1) == b""
    other.close()
    await hub.lost.wait()


async def test_first_message_without_a_loop() -> None:
    """A process that has no loop yet can wait for its first message, or for the end of its hub."""
    ours, theirs = make_pair()
    hub = End(ours)
    text = "x" * (3 * PIECE_BYTES)
    hub.channel.send({"text": text})
    assert await asyncio.to_thread(receive_first, theirs) == {"text": text}
    hub.channel.close()
    assert await asyncio.to_thread(receive_first, theirs) is None
    theirs.close()
