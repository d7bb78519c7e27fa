"""A `chat`: a member of its topic that reads and writes for a person, or for a program.

It is all that a `pipe` has in three objects (a client's input, the router's source and its sink),
because what its client sends and gets is not what is on the topic:

    client ─▶ backlog ─▶ side: keys, lines ─▶ commands
                                    └───▶ unsaid lines ─▶ source ─▶ ROUTER
    client ◀─ outflow ◀─ side: rows, lines ◀─ inbox ◀─ room ◀─ sink ◀─┘

Nobody waits for it: what finds no room in the inbox is left out and counted.  It waits itself: it
reads no further while lines are unsaid, since its user has said too much or the topic stands still,
and while its client takes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from pipe.chat.commands import Deed, help_lines, read
from pipe.chat.completion import Completion, complete
from pipe.chat.events import Event, note
from pipe.chat.paint import mentions
from pipe.chat.past import past_events
from pipe.chat.sides import LineSide, Side, TerminalSide
from pipe.chat.wire import shown_name, write_lines
from pipe.commands import invitations
from pipe.commands.layout import count, listed
from pipe.errors import Outcome, UsageError
from pipe.language.chat_requests import DEFAULT_KEEP, DEFAULT_LINES
from pipe.language.names import parse_topic
from pipe.language.requests import Pipe
from pipe.session.midstream import what_it_missed
from pipe.stream.chunks import Backlog, Chunk
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.chat_requests import Chat
    from pipe.limits.quotas import Bucket
    from pipe.rights.access import Loss
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.front import Front, Port
    from pipe.session.place import Place
    from pipe.stream.ports import Receipt

PIECE_BYTES = 64
STEP_SECONDS = 0.0005
"""A step of `pipe.limits.turns` reads pieces until so long has passed: each key may draw a line."""

STEP_EVENTS = 4
"""Events that a step shows: drawing the longest line again takes a millisecond."""

MAX_OUT = 32 * 1024
"""Characters that wait for the client; then no more is read from it, and no more shown."""

MAX_EVENTS = 200
MAX_EVENT_CHARACTERS = 64 * 1024
"""What waits to be shown, in events and in characters; then events are left out and counted."""

MAX_NAMES = 50
"""Names that `/who` lists."""


class Owner(Protocol):
    """The session that it belongs to."""

    @property
    def caller(self) -> Caller:
        """Whose it is."""

    @property
    def port(self) -> Port:
        """Its client's."""

    def announce(self, text: str) -> None:
        """Tell the user something beside the chat."""

    def end(self, outcome: Outcome, text: str = "", *, exit_status: int | None = None) -> None:
        """End in order; this calls `Conversation.close`."""

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End now; the same."""


class Conversation:
    """One client's chat.

    It takes the client's input as a `pipe.session.intake.Destination`, gives its output as a
    `pipe.session.outflow.Feed`, and is a `pipe.chat.room.Person`.

    Args:
        owner: its session.
        service: what all sessions share.
        place: its place on the topic, to be taken.
        request: what the client asks for.

    Raises:
        BadName: the topic has no valid name.
    """

    def __init__(self, owner: Owner, service: Service, place: Place, request: Chat) -> None:
        self.user = owner.caller.user
        self.topic = parse_topic(request.topic, caller=self.user, public=request.public)
        self._nick = request.nick
        self._owner = owner
        self._port = owner.port
        self._service = service
        self._router = service.router
        self._place = place
        self._request = request
        self._loop = asyncio.get_running_loop()
        keep = DEFAULT_KEEP if request.keep is None else request.keep
        self._wish = Pipe(
            str(self.topic),
            access=request.access,
            keep=min(keep, service.keeping.most) if request.keep is None else keep,
            linger=request.linger,
        )
        self.member = Member(
            Mode.PIPE,
            source=_Mouth(self),
            sink=_Ear(self),
            keep_alive=True,
            keep=self._wish.keep,
            linger=request.linger,
        )
        self.member.user = self.user

        self._backlog = Backlog()  # what its client has sent
        self._piece = memoryview(b"")  # of which this is being read
        self._at_end = False  # whether that is all
        self._ends = False  # and all of it is read
        self._held = False  # whether the client may send no more
        self._reads = False  # whether a step is due that reads

        self._unsaid: deque[tuple[list[str], bool]] = deque()  # lines, and whether they are deeds
        self._paused = True  # by the router
        self._rest: asyncio.TimerHandle | None = None  # until more may be said
        self._bucket: Bucket | None = None

        self._inbox: deque[Event] = deque()
        self._inbox_size = 0
        self._missed = 0
        self._shows = False  # whether a step is due that shows
        self._columns: int | None = None  # of its terminal, if that has changed
        self._wake: Callable[[], None] = _nobody
        self._over = False

    @property
    def name(self) -> str:
        """How its user is shown."""
        return shown_name(self.user, self._nick)

    # -- coming and going -------------------------------------------------------------------------

    def enter(self, front: Front, lost: Callable[[Loss], None]) -> None:
        """Join the topic and its room.

        Args:
            front: its client's.
            lost: called when the right to be there ends.

        Raises:
            PipeError: it may not, there is no way to draw in its terminal, or a stream is under
                way that nobody may have only a part of.
        """
        self._side = self._make_side(front)
        self._place.enter(self.topic, self._wish, lost)
        what_it_missed(self._router, self.topic, self._wish)  # it shows what is kept of that
        self._bucket = self._place.publish(self._loop.time())
        with self._router.at_once():
            self._place.join(self.member)
        history = self._router.history(self.topic)
        past = past_events(history, self._lines) if history else []
        for event in past:
            self._side.show(event)
        self._room = self._service.rooms.enter(self.topic, self, self.member)
        if self.member.replay:
            self._welcome()

    def _make_side(self, front: Front) -> Side:
        request = self._request
        self._lines = request.lines or 0
        front.follow()
        if front.line_end == b"\n":
            return LineSide(self._say, self._owner.announce, as_json=request.json)
        screen = front.screen()
        if screen is None:
            raise UsageError("this terminal is dumb: leave out -t to chat in plain lines")
        if request.json:
            raise UsageError("--json is for programs: leave out -t")
        if request.lines is None:
            self._lines = DEFAULT_LINES
        self.member.replay = True  # what its user says is shown where it comes among the others'
        front.on_resize(self._resize)
        return TerminalSide(self, screen.columns, colours=screen.colours and not request.plain)

    def _welcome(self) -> None:
        wish = self._request
        for line in invitations(self._service, self._owner.caller, wish, self.topic):
            self._show_note(line)
        self._show_note(f"{self.topic}: {self._who_is_here()}. /help says what you can do")

    def _leave(self, outcome: Outcome) -> None:
        """Leave in order: others' streams are whole."""
        self._router.end(self.member)
        self._owner.end(outcome)

    def close(self) -> None:
        """Be over: show what there is, and give the terminal back."""
        if self._over:
            return
        self._over = True
        self._wake = _nobody
        if self._rest:
            self._rest.cancel()
        self._service.rooms.leave(self.topic, self, self.member)
        while self._inbox:
            self._side.show(self._inbox.popleft())
        self._side.close()
        if data := self._side.take():
            self._port.write(Chunk(data))

    # -- from the client --------------------------------------------------------------------------

    def publish(self, member: Member, chunk: Chunk) -> None:  # noqa: ARG002
        """Take what the client sends."""
        self._backlog.append(chunk)
        self._read_on()

    def deal(self, member: Member, records: Chunk, separator: bytes) -> int:  # noqa: ARG002
        """Take it as a chunk: nobody asks for records."""
        self.publish(member, records)
        return 0

    def end(self, member: Member) -> None:  # noqa: ARG002
        """Leave once all that came is said."""
        self._at_end = True
        self._read_on()

    def _read_on(self) -> None:
        """Read, unless that is due already or must wait."""
        if not (self._reads or self._waits):
            self._reads = True
            self._soon(self._read)

    def _soon(self, step: Callable[[], bool]) -> None:
        """Take a step, but not now: this may be in the middle of a fan-out, and it may publish."""
        self._loop.call_soon(self._service.turns.do, step)

    @property
    def _waits(self) -> bool:
        return bool(self._unsaid) or self._side.size > MAX_OUT or self._over

    def _read(self) -> bool:
        """Read a little, and return whether there is more to read now."""
        deadline = time.monotonic() + STEP_SECONDS
        while not self._waits and (self._piece or self._backlog):
            if not self._piece:
                self._piece = memoryview(self._backlog.popleft().data)
            piece, self._piece = self._piece[:PIECE_BYTES], self._piece[PIECE_BYTES:]
            self._side.feed(bytes(piece))
            if time.monotonic() > deadline:
                break
        self._wake()
        unread = bool(self._piece or self._backlog)
        if unread and not self._waits:
            return True
        self._reads = False
        if self._over:
            return False
        if unread != self._held:
            self._held = unread
            if unread:
                self._port.pause_reading()
            else:
                self._port.resume_reading()
        if self._at_end and not (unread or self._unsaid):
            self._side.end()
            self._at_end = False
            self._ends = True
            self._leave_if_done()
        return False

    def _leave_if_done(self) -> None:
        if self._ends and not self._unsaid and not self._over:
            self._leave(Outcome.DONE)

    # -- what is typed: `pipe.chat.editor.Typist` -------------------------------------------------

    def entered(self, lines: list[str]) -> None:
        """Say it, or do what it asks for."""
        if self._over:
            return
        if len(lines) > 1:
            self._say(lines)
            return
        try:
            deed, text = read(lines[0])
        except UsageError as error:
            self._show_note(error.message)
            return
        match deed:
            case Deed.SAY:
                self._say([text])
            case Deed.ACT:
                self._say([text], action=True)
            case Deed.WHO:
                self._show_note(self._who_is_here())
            case Deed.NICK:
                old, self._nick = self.name, text
                self._room.rename(self, old)
            case Deed.COLOUR:
                self._side.colour(wanted=text == "on")
                self._show_note(f"colours are {text}")
            case Deed.HELP:
                for line in help_lines(self.user):
                    self._show_note(line)
            case Deed.QUIT:
                self._leave(Outcome.DONE)

    def completed(self, line: str, position: int) -> Completion | None:
        """Complete names."""
        people = (person.name for person in self._room.people if person is not self)
        found = complete(line, position, people)
        if found and found.choices:
            self.tell(note(" ".join(found.choices)))
        return found

    def refused(self, text: str) -> None:
        """Tell the user."""
        self._show_note(text)

    def interrupted(self) -> None:
        """Leave by Ctrl-C."""
        if not self._over:
            self._leave(Outcome.INTERRUPTED)

    def ended(self) -> None:
        """Leave by Ctrl-D."""
        if not self._over:
            self._leave(Outcome.DONE)

    def _show_note(self, text: str) -> None:
        if not self._over:
            self._side.show(note(text))

    def _who_is_here(self) -> str:
        people = self._room.people
        names = [person.name for person in people[:MAX_NAMES]]
        if len(people) > MAX_NAMES:
            names.append(f"{len(people) - MAX_NAMES} more")
        others = len(self._router.members(self.topic)) - len(people)
        beside = f", and {count(others, 'other')} without a chat" if others > 0 else ""
        return f"here {'are' if len(names) > 1 else 'is'} {listed(names)}{beside}"

    def _resize(self, columns: int) -> None:
        """Draw for another width: once for all changes that come before there is room for it."""
        drawn, self._columns = self._columns is None, columns
        if drawn:
            self._soon(self._redraw)

    def _redraw(self) -> bool:
        if self._columns is not None and self._side.size <= MAX_OUT and not self._over:
            self._side.resize(self._columns)
            self._columns = None
            self._wake()
        return False

    # -- to the topic -----------------------------------------------------------------------------

    def _say(self, lines: list[str], *, action: bool = False) -> None:
        if not self._over:
            self._unsaid.append((lines, action))
            self._speak()

    def _speak(self) -> None:
        """Publish what is unsaid, as far as that is allowed now."""
        while self._unsaid and not (self._paused or self._rest or self._over):
            lines, action = self._unsaid[0]
            if delay := self._room.delay(self.user, len(lines)):
                self._wait(delay)
                return
            self._unsaid.popleft()
            chunk = Chunk(write_lines(self.name, lines, action=action))
            self._router.publish(self.member, chunk)
            if self._bucket and (delay := self._bucket.take(chunk.size, self._loop.time())):
                self._wait(delay)

    def _wait(self, seconds: float) -> None:
        self._rest = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self.go_on()

    def pause(self) -> None:
        """Say nothing for now: the topic stands still."""
        self._paused = True

    def go_on(self) -> None:
        """Say what is unsaid, and read on."""
        self._speak()
        self._leave_if_done()
        self._read_on()

    def resume(self) -> None:
        """Speak again."""
        self._paused = False
        self.go_on()

    # -- from the topic ---------------------------------------------------------------------------

    def hear(self, chunk: Chunk) -> None:
        """Take a chunk that was published."""
        for event in self._room.hear(chunk, self._router.speaker):
            self.tell(event)

    def flushed(self) -> None:
        """Tell the router that nothing is pending."""
        self._router.flushed(self.member)

    def tell(self, event: Event) -> None:
        """Show an event soon, or count it as missed."""
        if self._over:
            return
        full = len(self._inbox) >= MAX_EVENTS or self._inbox_size >= MAX_EVENT_CHARACTERS
        if self._missed or full:
            self._missed += 1
            return
        self._inbox.append(event)
        self._inbox_size += len(event.text)
        self._show_on()

    def _show_on(self) -> None:
        if self._inbox and not self._shows and self._side.size <= MAX_OUT:
            self._shows = True
            self._soon(self._show)

    def _show(self) -> bool:
        """Show some of what is in the inbox, and return whether there is more to show now."""
        if self._over:
            return False
        for _ in range(STEP_EVENTS):
            if not self._inbox or self._side.size > MAX_OUT:
                break
            event = self._inbox.popleft()
            self._inbox_size -= len(event.text)
            self._side.show(event, mentioned=mentions(event, self.user, self._nick))
        if not self._inbox and self._missed:
            self._side.show(note(f"{self._missed} lines were left out: you fell behind"))
            self._missed = 0
        self._wake()
        if self._inbox and self._side.size <= MAX_OUT:
            return True
        self._shows = False
        return False

    # -- to the client: `pipe.session.outflow.Feed` -----------------------------------------------

    def connect(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there may be something to take."""
        self._wake = wake

    def take(self, most: int) -> bytes:  # noqa: ARG002 - it has a bound of its own
        """Take what is to be written."""
        data = self._side.take()
        if data:
            if self._columns is not None:
                self._soon(self._redraw)
            self._show_on()
            if self._piece or self._backlog:
                self._read_on()
        return data


class _Mouth:
    """A conversation as the router's source."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def pause(self) -> None:
        """Say nothing for now."""
        self._conversation.pause()

    def resume(self) -> None:
        """Go on."""
        self._conversation.resume()

    def waits(self, missing: int) -> None:
        """It waits for nobody."""

    def finish(self, receipt: Receipt) -> None:
        """There is no receipt for a `pipe`."""


class _Ear:
    """A conversation as the router's sink: it is never full, and has at once what it gets."""

    clogged = False
    pending = 0

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def write(self, chunk: Chunk) -> None:
        """Hear a chunk."""
        self._conversation.hear(chunk)

    def flush(self) -> None:
        """Nothing is pending."""
        self._conversation.flushed()

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """It stays when others end."""

    def cut(self, outcome: Outcome) -> None:
        """It is never slow."""

    def waited_for(self, others: bool) -> None:
        """Nobody waits for it."""


def _nobody() -> None:
    """Nobody reads."""
