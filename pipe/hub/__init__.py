"""Several processes of one machine as one server: ``pipe serve --workers N``.

The hub opens the ports, accepts, judges each connection (`pipe.limits.gate`) and hands it to a
worker, which is a server like any other but for its ports.  No stream passes through the hub, and
it knows neither SSH nor HTTP.

    serve      the hub: what it starts, and how it stops
    crew       the worker processes: started, replaced, started again when one dies
    attendance who stands still, and how long a worker has what there is once
    reception  accepts, counts, and chooses who serves
    channel    messages between the hub and a worker
    homes      which topic is at home in which worker
    nodes      the other machines, where there are several
    sums       what each worker counts, and what all do
    counts     tells them, and what other machines count
    exchange   what hubs of several machines tell each other
    health     how one of several machines is, for its operator
    contact    with the database that machines share
    census     how much memory and time of a processor the workers use
    figures    the metrics of all, added up
    worker     a worker's process
    far        what a worker has in place of what the hub counts
    mates      what a worker knows of the others

A worker that loses its hub ends at once: it could neither accept nor be counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipe.settings import Settings


def run(settings: Settings) -> int:
    """Serve with several workers until a signal says stop, and return the exit status.

    Raises:
        PipeError: the server cannot start.
    """
    from pipe.hub.serve import run as serve  # a worker needs none of it

    return serve(settings)
