"""Take `docs/page-topics.png`, `page-topic.png` and `page-monitors.png`: the page, light and dark.

What it shows is made up by the tests' stand-in for the server; a clock that runs fast makes a
minute of history in a few seconds.

    python docs/screenshots.py
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web
from playwright.async_api import async_playwright

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.web.browser.conftest import CHROMIUM, FLAGS  # noqa: E402
from tests.web.browser.standin import HOST, StandIn, monitor, topic  # noqa: E402

if TYPE_CHECKING:
    from playwright.async_api import Page

SIZE: Final = {"width": 1280, "height": 800}

FAST_CLOCK: Final = """
    const real = performance.now.bind(performance);
    window.skipped = 0;
    performance.now = () => real() + window.skipped * 1000;
"""

LOG: Final = """resolving 214 packages
compiling pipe/stream/router.py
compiling pipe/ssh/lane/connection.py
linking
running 1180 tests
tests/stream/test_ends.py ........................ [ 38%]
tests/stream/test_bytes.py ............... [ 52%]
warning: 1 test was slower than a second
1180 passed in 61.20s
uploading build 4711
done
"""


def topics(second: int) -> list[dict[str, object]]:
    """What flows at a moment."""

    def wave(period: float, size: float) -> int:
        return int(size * (1.05 + math.sin(second / period) + random.random() * 0.3))

    flow = "in_bytes_per_second"
    return [
        topic("alice/backup", publishers=1, subscribers=2, in_bytes=86 << 27)
        | {flow: wave(9, 11_000_000)},
        topic("alice/build", publishers=1, subscribers=3, in_bytes=1_250_000)
        | {flow: wave(4, 2100)},
        topic("alice/deployed", subscribers=1),
        topic("alice/log", publishers=2, subscribers=1, clogged=1, in_bytes=44_000_000)
        | {"clogged_seconds": 12.3},
        topic("alice/report", publishers=1, waiting=1),
        topic("bob/metrics", publishers=1, subscribers=4, in_bytes=92_000) | {flow: wave(6, 900)},
        topic("public/tea", pipes=5, in_bytes=18_200) | {flow: wave(2, 40)},
    ]


def monitors() -> list[dict[str, object]]:
    """How some topics were."""
    now, hour, day = time.time(), 3600.0, 86_400.0
    good = [None] * 52 + [1.0] * 38
    return [
        monitor("alice/backup", "down", "a publisher ended with status 3", since=now - 2 * hour)
        | {"last_seen": now - day - 2 * hour, "on": "end", "min_bytes": 1 << 30, "remind": hour}
        | {"uptime": {"24h": 0.9166, "7d": 0.988, "30d": 0.9889, "90d": 0.9895}}
        | {"days": [*good[:-20], 0.8, *[1.0] * 9, 0.4, *[1.0] * 8, 0.92]},
        monitor("alice/sensors/cellar", "up", "something came", since=now - 9 * day)
        | {
            "last_seen": now - 70,
            "every": 300.0,
            "grace": 30.0,
            "days": [*good[:-10], 0.97, *[1.0] * 9],
        }
        | {"uptime": {"24h": 1.0, "7d": 1.0, "30d": 0.999, "90d": 0.9992}},
        monitor(
            "bob/metrics",
            "late",
            "nothing has come for 61s, and it is expected every 60s; there is grace for 30s",
            since=now - 1,
        )
        | {"last_seen": now - 61, "every": 60.0, "grace": 30.0, "days": good}
        | {"uptime": {"24h": 1.0, "7d": 1.0, "30d": 1.0, "90d": 1.0}},
    ]


async def let_time_pass(page: Page, standin: StandIn) -> None:
    """A minute of lists."""
    for second in range(70):
        standin.topics = topics(second)
        await page.evaluate("window.skipped += 1")
        standin.changed.set()
        await page.wait_for_timeout(40)


async def main() -> None:
    """Take all."""
    standin = StandIn(stream=[LOG.encode()])
    standin.reads.set()
    standin.sessions = [
        {"user": user, "mode": mode, "address": address, "key": "", "in_bytes": 0}
        | {"out_bytes": moved, "waiting_for": 0, "clogged": user == "carol"}
        for user, mode, address, moved in (
            ("alice", "publish", "192.0.2.7", 1_250_000),
            ("bob", "subscribe", "198.51.100.23", 1_248_000),
            ("carol", "subscribe", "2001:db8::17", 640_000),
        )
    ]
    with socket.create_server((HOST, 0)) as listener:
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        runner = web.AppRunner(
            standin.application(url), handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.SockSite(runner, listener).start()
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            page = await browser.new_page(color_scheme="light", viewport=SIZE)  # type: ignore[arg-type]
            await page.add_init_script(FAST_CLOCK)
            await page.goto(url)
            await let_time_pass(page, standin)
            await page.screenshot(path=ROOT / "docs" / "page-topics.png")
            await page.emulate_media(color_scheme="dark")
            await page.goto(f"{url}/#/topic/alice/build")
            await page.get_by_role("button", name="Follow").click()
            await let_time_pass(page, standin)
            await page.screenshot(path=ROOT / "docs" / "page-topic.png")
            standin.monitors = monitors()
            await page.emulate_media(color_scheme="light")
            await page.goto(f"{url}/#/monitors")
            await page.locator(".card").last.wait_for()
            await page.screenshot(path=ROOT / "docs" / "page-monitors.png")
            await browser.close()
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
