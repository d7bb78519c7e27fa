"""What nodes tell each other of their counts, over a network that loses messages."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipe.mesh.frames import BadFrame
from pipe.mesh.ledger import About, Ledger, Message, decode, encode

NODES = ("n1", "n2", "n3")
KEYS = ("a", "b")

nodes = st.sampled_from(NODES)


class Node:
    """A node, what it has heard of the others, and what is on its way to it."""

    def __init__(self, name: str, start: int) -> None:
        self.name = f"{name}/{start}"
        self.ledger: Ledger[str] = Ledger(self.name)
        self.counts: dict[str, int] = {}
        self.charged = 0
        self.known: dict[str, dict[str, int]] = {}  # by the names of those who are there
        self.heard = Counter[str]()  # charges
        self.inbox: deque[tuple[str, bytes]] = deque()

    def take(self) -> None:
        """Take one message, of somebody who is there."""
        sender, data = self.inbox.popleft()
        if sender not in self.known:
            return
        message = decode(data)
        heard = self.ledger.hear(sender, sender, message)
        if heard.counts:
            if message.whole:
                self.known[sender].clear()
            self.known[sender].update(message.counts)
        if heard.charges:
            self.heard[sender] += sum(times for *_, times in message.charges)


class Mesh(RuleBasedStateMachine):
    """Nodes that count, tell, lose each other, and are started anew."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0
        self.nodes = {name: self.start(name) for name in NODES}
        for one in NODES:
            for other in NODES:
                self.join(one, other)

    def start(self, name: str) -> Node:
        """Start a node."""
        self.starts += 1
        return Node(name, self.starts)

    def join(self, one: str, other: str) -> None:
        """Have one see the other."""
        seen = self.nodes[other].name
        if one != other and seen not in self.nodes[one].known:
            self.nodes[one].known[seen] = {}
            self.nodes[one].ledger.greet(seen, seen)

    @rule(name=nodes, key=st.sampled_from(KEYS), count=st.integers(0, 3))
    def count(self, name: str, key: str, count: int) -> None:
        """A node counts otherwise."""
        self.nodes[name].ledger.count({key: count})
        self.nodes[name].counts[key] = count

    @rule(name=nodes)
    def take_twice(self, name: str) -> None:
        """A message comes on two wires."""
        node = self.nodes[name]
        if node.inbox:
            node.inbox.appendleft(node.inbox[0])
            node.take()
            node.take()

    @rule(name=nodes)
    def charge(self, name: str) -> None:
        """Somebody offends at a node."""
        self.nodes[name].ledger.charge("192.0.2.1", "REFUSED")
        self.nodes[name].charged += 1

    @rule(name=nodes)
    def tell(self, name: str) -> None:
        """A node tells what there is to tell."""
        node = self.nodes[name]
        message = node.ledger.next(about=About("1", 0.0, 1))
        assert not node.ledger.pending
        for other in self.nodes.values():
            if other is not node:
                other.inbox.append((node.name, encode(message)))

    @rule(name=nodes)
    def take(self, name: str) -> None:
        """A message arrives."""
        if self.nodes[name].inbox:
            self.nodes[name].take()

    @rule(name=nodes)
    def lose(self, name: str) -> None:
        """A message is lost."""
        if self.nodes[name].inbox:
            self.nodes[name].inbox.popleft()
            event("lost")

    @rule(one=nodes, other=nodes)
    def part(self, one: str, other: str) -> None:
        """One sees the other no longer, who may not know."""
        seen = self.nodes[other].name
        if self.nodes[one].known.pop(seen, None) is not None:
            self.nodes[one].ledger.forget(seen)

    @rule(one=nodes, other=nodes)
    def meet(self, one: str, other: str) -> None:
        """They see each other again."""
        self.join(one, other)

    @rule(name=nodes)
    def restart(self, name: str) -> None:
        """A node is killed, and started anew."""
        gone = self.nodes[name].name
        self.nodes[name] = self.start(name)
        for node in self.nodes.values():
            node.known.pop(gone, None)
            node.ledger.forget(gone)
        for other in NODES:
            self.join(name, other)
            self.join(other, name)

    @invariant()
    def no_offence_counts_twice(self) -> None:
        """Nobody hears of more than there was."""
        for one in self.nodes.values():
            for other in self.nodes.values():
                assert one.heard[other.name] <= other.charged

    def teardown(self) -> None:
        """Once all are there and nothing is lost, two beats are enough for all to know all."""
        for one in NODES:
            self.nodes[one].inbox.clear()
            for other in NODES:
                self.join(one, other)
        for _ in range(3):  # a beat; who misses something asks; the answer
            for name in NODES:
                self.tell(name)
            for node in self.nodes.values():
                while node.inbox:
                    node.take()
        for node in self.nodes.values():
            for told in self.nodes.values():
                if node is not told:
                    found = {key: count for key, count in node.known[told.name].items() if count}
                    assert found == {key: count for key, count in told.counts.items() if count}


TestMesh = Mesh.TestCase


@given(told=st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 3))))
def test_without_loss_nothing_is_asked(told: list[tuple[str, int]]) -> None:
    """Each change is told once, and followed by nothing."""
    teller: Ledger[str] = Ledger("n1/1")
    listener: Ledger[str] = Ledger("n2/1")
    for number, (key, count) in enumerate(told, start=1):
        teller.count({key: count})
        message = teller.next()
        assert message == Message(number, {key: count})
        assert listener.hear("n1", "n1/1", message) == (True, True)
        assert listener.hear("n1", "n1/1", teller.next()) == (False, False)
    assert not listener.pending


def test_penalties_are_told_to_who_asks() -> None:
    """Who has missed an offence gets the penalty, and not the offence once more."""
    teller: Ledger[str] = Ledger("n1/1")
    listener: Ledger[str] = Ledger("n2/1")
    teller.charge("192.0.2.1", "REFUSED")
    teller.next()  # is lost
    assert listener.hear("n1", "n1/1", teller.next()) == (False, False)
    teller.hear("n2", "n2/1", listener.next())
    assert teller.asked
    teller.charge("192.0.2.1", "REFUSED")
    answer = teller.next([("192.0.2.1", 10.0, False)])
    assert answer.penalties == (("192.0.2.1", 10.0, False),)
    assert listener.hear("n1", "n1/1", decode(encode(answer))) == (True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"number":"x"}',
        b'{"number":-1}',
        b'{"number":1,"counts":2}',
        b'{"number":1,"counts":{"rate/bob":-1}}',
        b'{"number":1,"counts":{"rate/bob":9007199254740992}}',
        b'{"number":1,"counts":{"%s":1}}' % (b"k" * 257),
        b'{"number":1,"charges":[["192.0.2.1","REFUSED",-1]]}',
        b'{"number":1,"penalties":[["192.0.2.1",NaN,true]]}',
        b'{"number":1,"penalties":[["192.0.2.1",Infinity,true]]}',
        b'{"number":1,"asks":["%s"]}' % (b"n" * 257),
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    """It is refused as a whole."""
    with pytest.raises(BadFrame):
        decode(data)
