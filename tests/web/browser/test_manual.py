"""The documentation's site as the server shows it, in Chromium."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import expect

from pipe.web.manual import Manual

from .conftest import Watch
from .standin import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page

BUILDER = Path(__file__).resolve().parents[3] / "docs" / "site.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, BUILDER, folder], check=True, capture_output=True)
    return folder


@pytest_asyncio.fixture(loop_scope="package")
async def url(folder: Path) -> AsyncIterator[str]:
    """Where it is served."""
    app = web.Application()
    app.add_routes(Manual(folder).routes())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    yield f"http://{HOST}:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.asyncio(loop_scope="package")
async def test_it_is_read_and_searched_within_its_policy(page: Page, url: str) -> None:
    """The menu leads on, the search finds, and the browser has nothing to refuse."""
    watch = Watch(page)
    await page.goto(f"{url}/docs")
    await page.get_by_role("link", name="Tutorial", exact=True).first.click()
    await expect(page.get_by_role("heading", name="Your first stream")).to_be_visible()
    await page.get_by_role("textbox", name="Search").fill("round_robin")
    await expect(page.locator(".md-search-result__item").first).to_contain_text("round_robin")

    assert watch.complaints == []
    assert watch.origins == {url}


@pytest.mark.asyncio(loop_scope="package")
async def test_nothing_else_is_served(page: Page, url: str) -> None:
    """A request chooses among names; it is never a path."""
    response = await page.request.get(f"{url}/docs/..%2f..%2fpages.py")

    assert response.status == 404


def test_without_a_site_there_is_none(tmp_path: Path) -> None:
    """A server from a checkout in which nobody has built it has no such pages."""
    assert not Manual(tmp_path)
    assert Manual(tmp_path).routes() == []
