"""How the page looks and is moved through: small screens, colours, names and keys."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

import pytest
from playwright.async_api import expect

from .views import EVERY_VIEW, VIEWS, fill, open_view

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from .standin import StandIn

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_colours_follow_the_system_and_can_be_read(
    browser: Browser, standin: StandIn, scheme: Literal["light", "dark"]
) -> None:
    """WCAG's 4.5 between text and what is behind it, for every pair that is used."""
    page = await browser.new_page(color_scheme=scheme)
    await page.goto(standin.url)
    pairs = [
        *((text, back) for text in ("text", "muted", "accent") for back in ("ground", "surface")),
        *(("text", "sunken"), ("muted", "sunken"), ("accent", "accent-soft")),
        *(("on-fill", "fill"), ("on-fill", "fill-strong"), ("ground", "bad")),
        *(("warn", "warn-soft"), ("bad", "bad-soft")),
    ]
    colours = await page.evaluate(
        """(names) => {
            const style = getComputedStyle(document.documentElement);
            const value = (one) => style.getPropertyValue(`--${one}`);
            return Object.fromEntries(names.map((one) => [one, value(one)]));
        }""",
        sorted({name for pair in pairs for name in pair}),
    )
    assert (luminance(colours["ground"]) < 0.1) == (scheme == "dark")
    for text, back in pairs:
        dim, bright = sorted((luminance(colours[text]), luminance(colours[back])))
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (text, back)


def luminance(colour: str) -> float:
    """WCAG's relative luminance of ``#rrggbb``."""
    parts = [int(colour.strip()[at:end], 16) / 255 for at, end in pairwise((1, 3, 5, 7))]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def test_every_view_fits_a_small_screen(page: Page, standin: StandIn) -> None:
    """360 px wide, nothing sticks out, and the menu leads everywhere."""
    fill(standin)
    await page.set_viewport_size({"width": 360, "height": 640})
    for view in EVERY_VIEW:
        await open_view(page, standin, view)
        over = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, view
    await open_view(page, standin, "#/topics")
    await page.get_by_role("button", name="Menu").click()
    await page.get_by_role("link", name="Grants").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Grants")
    await expect(page.get_by_role("link", name="Grants")).to_be_hidden()


CONTROLS: Final = "a, button, input, select, textarea, [tabindex='0']"
NAMELESS: Final = f"""() => [...document.querySelectorAll("{CONTROLS}")]
    .filter((one) => one.checkVisibility())
    .filter((one) => ![
        one.getAttribute("aria-label"), one.textContent.trim(), one.labels?.[0]?.textContent,
    ].some(Boolean))
    .map((one) => one.outerHTML)"""


async def test_everything_has_a_name_and_can_be_reached_by_keys(
    page: Page, standin: StandIn
) -> None:
    """The first Tab offers to skip the menu, and no view holds the focus for ever."""
    fill(standin)
    for view in VIEWS:
        await open_view(page, standin, view)
        assert await page.evaluate(NAMELESS) == [], view
        assert await page.locator("h1").count() == 1
    await open_view(page, standin, "#/tokens")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the content")).to_be_focused()
    seen = []
    for _ in range(80):
        await page.keyboard.press("Tab")
        seen.append(await page.evaluate("document.activeElement.textContent"))
        if len(seen) > 1 and "Skip to the content" in seen[-1]:
            break
    assert {"Topics", "Log out", "Make a token"} <= {text.strip() for text in seen}


async def test_a_new_view_is_announced_by_its_heading(page: Page, standin: StandIn) -> None:
    """The focus goes there, and the window's title says where one is."""
    await open_view(page, standin, "#/topics")
    await page.get_by_role("link", name="Keys").click()
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    assert await page.title() == "Keys · pipe"
