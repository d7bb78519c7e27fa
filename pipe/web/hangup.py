"""Notices that a client has hung up while nothing is read from it.

A socket that is not read tells nobody that its other end is gone: neither asyncio nor uvloop looks.
So a publisher that died while its readers were slow would look alive, and what it had sent would
reach whoever comes next.  epoll(7) tells of a hang-up apart from data, with ``EPOLLRDHUP``, and an
epoll descriptor is itself one that an event loop can watch.
"""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def has_hung_up(descriptor: int) -> bool:
    """Whether the other end of a socket is gone, as far as the kernel has been told."""
    poll = select.poll()
    poll.register(descriptor, getattr(select, "POLLRDHUP", 0))  # POLLHUP and POLLERR are implied
    return bool(poll.poll(0))


class Watch(Protocol):
    """Notices that a client has hung up; a transport that does so itself offers one."""

    def watch(self, descriptor: int, gone: Callable[[], None]) -> None:
        """Call ``gone``, once, when the other end hangs up, until `forget`."""

    def forget(self, descriptor: int, gone: Callable[[], None]) -> None:
        """Watch no more for this one; harmless where it was not."""


class Hangups:
    """Watches the sockets that are not read.

    Where the system has no epoll they are noticed as they are read again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll:
            loop.add_reader(self._epoll.fileno(), self._look)

    def watch(self, descriptor: int, gone: Callable[[], None]) -> None:
        """Call ``gone``, once, when the other end of a socket hangs up, until `forget`."""
        if self._epoll is None or descriptor < 0:
            return
        try:
            self._epoll.register(descriptor, select.EPOLLRDHUP)
        except FileExistsError:
            self._epoll.modify(descriptor, select.EPOLLRDHUP)
        self._watched[descriptor] = gone

    def forget(self, descriptor: int, gone: Callable[[], None]) -> None:
        """Watch a socket no more for this one; harmless where it was not.

        Its number may belong to another connection by now, if its own was closed.
        """
        if self._watched.get(descriptor) == gone:
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        del self._watched[descriptor]
        if self._epoll:
            with contextlib.suppress(OSError):  # closed already
                self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._epoll:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
        self._watched.clear()

    def __len__(self) -> int:
        return len(self._watched)

    def _look(self) -> None:
        if self._epoll is None:
            return
        for descriptor, _ in self._epoll.poll(0):
            gone = self._watched.get(descriptor)
            if gone:
                self._drop(descriptor)
                gone()
