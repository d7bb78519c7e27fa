"""How long a webhook's sender waits for its answer while a stream takes all that there is.

The deliveries are a registry's, one after the other on one connection, spread over so many hooks
that none of them passes its rate.  A reader of the whole space gets every event.
"""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.servers import OverHTTP
from loadtest.workspace import AES, HOST, BenchError, ssh_command, wait_logged_in

if TYPE_CHECKING:
    from loadtest.servers import System

HOOKS = 40
"""So many take four hundred deliveries a second."""

WARM_UP = 40
_REST_SECONDS = 0.004
_SATURATION_SECONDS = 1.0
"""From the start of the stream until it has filled all buffers."""
_LIMIT = 60.0
_MILLISECONDS = 1e3


def answers_to_hooks(system: System, deliveries: int) -> dict[str, float]:
    """Returns ``p50`` and ``p99`` of the time until a delivery is answered, in milliseconds.

    Raises:
        BenchError: a client failed, or a delivery was not taken.
    """
    with OverHTTP(system.space) as server:
        server.log_in_once()
        hooks = [_make(server) for _ in range(HOOKS)]
        topic = system.space.new_name("stream")
        with system.space.processes() as group, Path("/dev/zero").open("rb") as zeros:
            readers = [
                group.ssh(server.endpoint, f"sub -k {name}", cipher=AES, stdout=subprocess.DEVNULL)
                for name in (topic, "'image:*'")
            ]
            wait_logged_in(readers)
            writer = group.ssh(server.endpoint, f"pub {topic}", cipher=AES, stdin=zeros)
            wait_logged_in([writer])
            time.sleep(_SATURATION_SECONDS)
            times = _deliver(server, hooks, WARM_UP + deliveries)[WARM_UP:]
    percentiles = statistics.quantiles(times, n=100)
    return {"p50": percentiles[49] * _MILLISECONDS, "p99": percentiles[98] * _MILLISECONDS}


def _make(server: OverHTTP) -> tuple[str, str]:
    """Makes a hook and returns its path and its secret."""
    words = f"hooks add {server.user}/ --kind distribution"
    command = ssh_command(server.endpoint, words, cipher=None)
    done = subprocess.run(command, capture_output=True, check=False, timeout=_LIMIT)
    if done.returncode:
        raise BenchError(f"no hook: {done.stderr.decode(errors='replace')}")
    url, secret = done.stdout.decode().split()
    return url[url.index("/hook/") :], secret


def _deliver(server: OverHTTP, hooks: list[tuple[str, str]], count: int) -> list[float]:
    times = []
    connection = http.client.HTTPConnection(HOST, server.web_port, timeout=_LIMIT)
    for number in range(count):
        path, secret = hooks[number % len(hooks)]
        body = _push(number)
        started = time.perf_counter()
        connection.request("POST", path, body, {"Authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - started)
        if answer.status != http.client.ACCEPTED:
            raise BenchError(f"a delivery was answered with {answer.status}")
        time.sleep(_REST_SECONDS)
    connection.close()
    return times


def _push(number: int) -> bytes:
    """A registry's word of a push, of the length that they have."""
    digest = f"sha256:{number:064x}"
    target = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "repository": "bench/image",
        "tag": f"v{number}",
        "references": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest}
        ]
        * 8,
    }
    event = {"id": str(number), "action": "push", "target": target, "actor": {"name": "bench"}}
    return json.dumps({"events": [event]}).encode()
