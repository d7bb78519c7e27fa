"""A chat: a topic read in lines, with the names of those who wrote them.

On the topic are lines, ``name: text``, which any `pipe` may write and read as they are.  A chat
never believes such a name: it shows the user whose session published the line, as the router knows
it, and takes the line's own name only where it is that user's.

- `events` is what can happen in a room, `wire` how it looks on a topic
- `room` knows who is there, cuts what is published into lines, and bounds what one user may say
- `past` finds what was said before somebody came
- `paint` lays it out for people, `commands` and `completion` are about what they type
- `keys` and `editor` are the terminal, `sides` what a client gets: a terminal, or lines

Nothing here knows of sessions, sockets or an event loop; `pipe.session.chat` puts it together.
"""
