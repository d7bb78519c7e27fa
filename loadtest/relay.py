"""The baseline: what one writes in an afternoon on asyncssh's public interface.

``pub [-m N] TOPIC``, ``sub TOPIC`` and ``version``; asyncssh's own defaults everywhere, on uvloop,
backpressure as its documentation has it: `pause_writing` of a subscriber pauses the publishers.
"""
# ruff: noqa: ARG002, D102 (asyncssh's callbacks, which it documents)

import asyncio
import collections
import sys

import asyncssh
import uvloop


class Topic:
    """The members of one topic, and those of its subscribers that cannot take more."""

    def __init__(self) -> None:
        self.publishers: set[Member] = set()
        self.subscribers: set[Member] = set()
        self.clogged: set[Member] = set()


TOPICS: collections.defaultdict[str, Topic] = collections.defaultdict(Topic)


class Member(asyncssh.SSHServerSession[bytes]):
    """One channel: a publisher or a subscriber."""

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.channel = chan
        self.wanted = 0
        self.held: list[bytes] = []
        self.ended = False

    def exec_requested(self, command: str) -> bool:
        word, *rest = command.split()
        self.topic = TOPICS[rest[-1] if rest else ""]
        if word == "pub":
            self.wanted = int(rest[1]) if rest[0] == "-m" else 1
            self.topic.publishers.add(self)
        elif word == "sub":
            self.topic.subscribers.add(self)
        self.ended = word == "version"
        return word in {"version", "pub", "sub"}

    def session_started(self) -> None:
        if self.ended:
            self.channel.exit(0)
        for publisher in tuple(self.topic.publishers):
            publisher.release()

    def release(self) -> None:
        if len(self.topic.subscribers) >= self.wanted and not self.topic.clogged:
            while self.held:
                self.forward(self.held.pop(0))
            self.channel.resume_reading()
            if self.ended:
                self.finish()

    def forward(self, data: bytes) -> None:
        for subscriber in tuple(self.topic.subscribers):
            subscriber.channel.write(data)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if len(self.topic.subscribers) >= self.wanted:
            self.forward(data)
        else:
            self.held.append(data)
            self.channel.pause_reading()

    def eof_received(self) -> bool:
        self.ended = self in self.topic.publishers
        if self.ended and not self.held:
            self.finish()
        return True

    def finish(self) -> None:
        self.topic.publishers.discard(self)
        self.channel.exit(0)
        for subscriber in self.topic.subscribers if not self.topic.publishers else ():
            subscriber.channel.exit(0)

    def pause_writing(self) -> None:
        self.topic.clogged.add(self)
        for publisher in self.topic.publishers:
            publisher.channel.pause_reading()

    def resume_writing(self) -> None:
        self.topic.clogged.discard(self)
        for publisher in tuple(self.topic.publishers):
            publisher.release()

    def connection_lost(self, exc: Exception | None) -> None:
        self.topic.publishers.discard(self)
        self.topic.subscribers.discard(self)
        self.resume_writing()


class Server(asyncssh.SSHServer):
    """Every key in the file may do everything."""

    def session_requested(self) -> Member:
        return Member()


async def main(host: str, port: str, host_key: str, authorized_keys: str) -> None:
    """Serves until it is ended."""
    keys = {"server_host_keys": [host_key], "authorized_client_keys": authorized_keys}
    await asyncssh.create_server(Server, host, int(port), encoding=None, **keys)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
