"""What a worker gets from its hub at the start."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipe.errors import SettingsError, StoreUnavailable
from pipe.hub import crew
from pipe.hub.far import FarGate
from pipe.hub.worker import WorkerApp
from pipe.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"workers": "4", "drain": "1m30s", "buffer": "512KiB", "max_rate_per_user": "1MiB"},
        {"web_tunnel": "no", "log_topics": "yes", "lane": "asyncssh", "log_level": "debug"},
        {"data_dir": "/srv/x y", "database_url": "postgresql://u:p@h/d", "signup": "open"},
        {"trusted_sources": "10.0.0.0/8,::1", "web_proxies": "none", "web_port": "0"},
        {"log_drain": "ops/log-drain", "web_url": "https://h.example", "memory_alarm": "1GiB"},
    ],
)
def test_settings_arrive_whole(options: Mapping[str, str]) -> None:
    """A worker has the settings of the hub, and knows which of them somebody has set."""
    settings = load(options)
    sent = json.loads(json.dumps(settings.model_dump(mode="json", exclude_unset=True)))
    received = Settings.model_validate(sent)
    assert received == settings
    assert received.model_fields_set == settings.model_fields_set
    assert isinstance(received.data_dir, Path)


def test_workers_are_a_number_or_auto() -> None:
    """``auto`` is a worker for each processor."""
    assert load({"workers": "3"}).workers == 3
    assert load({"workers": "auto"}).workers >= 1
    for bad in ("0", "many", "-1", "257"):
        with pytest.raises(SettingsError, match="auto"):
            load({"workers": bad})


def test_arguments_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's command line has the program's words, and nothing that may be a secret."""
    monkeypatch.setattr(
        "sys.orig_argv", ["python3", "-m", "pipe", "serve", "--database-url", "postgresql://u:p@h"]
    )
    monkeypatch.setattr("sys.argv", ["/x/pipe/__main__.py", "serve", "--database-url", "…"])
    assert crew.program()[1:] == ["-m", "pipe"]
    monkeypatch.setattr("sys.orig_argv", ["python3", "/opt/bin/pipe", "serve", "--port", "1"])
    monkeypatch.setattr("sys.argv", ["/opt/bin/pipe", "serve", "--port", "1"])
    assert crew.program()[1:] == ["/opt/bin/pipe"]


@pytest.mark.parametrize("kind", ["ssh", "web"])
async def test_connection_that_got_lost(kind: str) -> None:
    """If there was no descriptor left for a connection, the hub hears that it has left."""
    told: list[dict[str, Any]] = []
    end: Any = None
    channel: Any = SimpleNamespace(send=told.append)
    app: Any = WorkerApp(Settings(), {"ident": ["", 1, 1], "link": "link"}, end)
    app._loop = asyncio.get_running_loop()  # noqa: SLF001
    app._gate = FarGate(Settings(), channel)  # noqa: SLF001
    message = {"type": kind, "guest": 7, "source": "192.0.2.1", "trusted": False}
    app._receive(message, None)  # noqa: SLF001
    assert told == [{"type": "left", "guest": 7, "offence": None}]


async def test_duties_that_cannot_be_taken() -> None:
    """What a worker has taken of them is laid down, so that it can try again."""
    answers: list[object] = []
    calls: list[str] = []
    end: Any = None
    app: Any = WorkerApp(Settings(), {"ident": ["", 1, 1], "link": "link"}, end)
    app._channel = SimpleNamespace(answer=lambda _, value: answers.append(value))  # noqa: SLF001
    app._service = SimpleNamespace(webhooks=SimpleNamespace(rests=True))  # noqa: SLF001

    async def take_duties(_: object) -> None:
        calls.append("take")
        raise StoreUnavailable("the database is away")

    async def lay_down_duties(_: object) -> None:
        calls.append("lay down")

    app.take_duties, app.lay_down_duties = take_duties, lay_down_duties
    await app._lead({"ask": 1, "until": math.inf})  # noqa: SLF001
    assert (calls, answers) == (["take", "lay down"], ["the database is away"])
    assert app._service.webhooks.rests  # noqa: SLF001
    assert not app._leads()  # noqa: SLF001


class Duties:
    """A worker that takes duties once it may go on."""

    def __init__(self) -> None:
        end: Any = None
        self.app: Any = WorkerApp(Settings(), {"ident": ["", 1, 1], "link": "link"}, end)
        self.answers: list[object] = []
        self.calls: list[tuple[str, bool]] = []
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()
        members: dict[str, object] = {
            "_channel": SimpleNamespace(answer=lambda _, value: self.answers.append(value)),
            "_service": SimpleNamespace(webhooks=SimpleNamespace(rests=True)),
            "_loop": asyncio.get_running_loop(),
            "take_duties": self.take,
            "lay_down_duties": self.lay_down,
        }
        for name, member in members.items():
            setattr(self.app, name, member)

    async def take(self, _: object) -> None:
        """Take them, slowly."""
        self.asked.set()
        await self.goes_on.wait()
        self.calls.append(("take", self.app._leads()))  # noqa: SLF001

    async def lay_down(self, _: object) -> None:
        """Lay them down."""
        self.calls.append(("lay down", self.app._leads()))  # noqa: SLF001

    def hear(self, **message: object) -> None:
        """Have the hub say something."""
        self.app._receive({"ask": 1, **message}, None)  # noqa: SLF001

    async def settle(self) -> None:
        """Wait until all is done that the hub has said."""
        await asyncio.gather(*self.app._tasks)  # noqa: SLF001


async def test_duties_are_laid_down_after_they_are_taken() -> None:
    """An order that comes while the one before is carried out waits for that."""
    duties = Duties()
    duties.hear(type="lead", until=math.inf)
    await duties.asked.wait()
    duties.hear(type="lay down")
    duties.goes_on.set()
    await duties.settle()
    assert duties.calls == [("take", True), ("lay down", True)]
    assert duties.app._service.webhooks.rests  # noqa: SLF001
    assert not duties.app._leads()  # noqa: SLF001


async def test_duties_that_are_another_ones_by_now() -> None:
    """A worker that has stood still takes none, and acts on none until it is told so again."""
    duties = Duties()
    duties.hear(type="lead", until=time.monotonic() - 1)
    await duties.settle()
    assert (duties.calls, duties.answers) == ([], ["it was told too long ago"])
    duties.hear(type="attend")
    assert not duties.app._leads()  # noqa: SLF001
    duties.hear(type="attend", until=math.inf)
    assert duties.app._leads()  # noqa: SLF001
    duties.hear(type="attend")
    assert duties.app._leads()  # noqa: SLF001
